"""The command `koseki`. Each command prints for people, or one JSON object with `--json`."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from app.cli_backup import backup, reopen, restore
from app.cli_erase import erase, receipt
from app.cli_export import export
from app.cli_identity import identity
from app.cli_import import import_
from app.cli_keys import keys
from app.cli_rebuild import rebuild
from app.cli_replay import diff, explain, replay, show
from app.console import (
    DATA_DEFAULT,
    ClusterOption,
    CredentialsOption,
    DataOption,
    JsonOption,
    WorkspaceOption,
    cluster_of,
    console,
    counting,
    fail,
    print_found,
    print_json,
    print_table,
    run,
    settings_of,
)
from app.logs import configure_logs
from app.settings import Settings

IntakeKeptOption = Annotated[
    float, typer.Option(help="Keep what intake has settled so long, in seconds.")
]
LettersKeptOption = Annotated[
    float, typer.Option(help="A dead letter can be read so long at most, in seconds.")
]
TurnOverOption = Annotated[
    float,
    typer.Option(help="Destroyed keys leave replicas' logs within so many seconds; 120 at least."),
]

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="The customer data platform.")
clock = typer.Typer(no_args_is_help=True, help="The clock of the log.")
dead_letters = typer.Typer(no_args_is_help=True, help="Messages that could not be used.")
cli.add_typer(dead_letters, name="dead-letters")
cli.add_typer(clock, name="clock")
cli.add_typer(keys, name="keys")
cli.command()(backup)
cli.command()(restore)
cli.command()(rebuild)
for command in (replay, show, diff, export, erase, receipt):
    cli.command()(command)
cli.command("import")(import_)
cli.add_typer(explain, name="explain")
cli.add_typer(identity, name="identity")
cli.command()(reopen)


def main() -> None:
    """Run the command line."""
    configure_logs(least=logging.ERROR)
    cli()


@cli.command()
def up(
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    port: Annotated[int, typer.Option(help="gRPC port; 0 takes a free one.")] = 0,
    hosts: Annotated[int, typer.Option(help="Host processes.")] = 2,
    workers: Annotated[int, typer.Option(help="Ingest worker processes.")] = 1,
    gateways: Annotated[int, typer.Option(help="gRPC gateway processes.")] = 1,
    projectors: Annotated[int, typer.Option(help="Replicas of the read side.")] = 1,
    clock: Annotated[
        str, typer.Option(help="system, or manual=TIME: a new workspace's clock, turned by hand.")
    ] = "system",
    nats: ClusterOption = "",
    replicas: Annotated[int, typer.Option(help="Servers that keep each stream: 3 or 5.")] = 3,
    credentials: CredentialsOption = None,
    attest_every: Annotated[
        float, typer.Option(help="Sign the log's digest so often, in seconds.")
    ] = 3_600.0,
    intake_kept: IntakeKeptOption = 86_400.0,
    dead_letters_kept: LettersKeptOption = 604_800.0,
    turn_over: TurnOverOption = 3_600.0,
    serve_audits: Annotated[
        bool, typer.Option(help="Take whoever reaches the gRPC port for an auditor.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    With --nats on a cluster that is there; without, for development: one server, one replica.
    """
    settings = settings_of(
        workspace=workspace,
        data=data.resolve(),
        grpc_port=port,
        hosts=hosts,
        ingest_workers=workers,
        gateways=gateways,
        projectors=projectors,
        clock=clock,
        attest_every_seconds=attest_every,
        intake_kept_seconds=intake_kept,
        dead_letters_kept_seconds=dead_letters_kept,
        turn_over_seconds=turn_over,
        serve_audits=serve_audits,
        nats_cluster=cluster_of(nats, credentials, replicas=replicas),
    )
    run(_up(settings, as_json=as_json))


async def _up(settings: Settings, *, as_json: bool) -> None:
    from app.supervisor import Supervisor

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    supervisor = Supervisor(settings)
    starting = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _say_where(supervisor.settings, as_json=as_json)
            await stopped
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await supervisor.stop()


def _say_where(settings: Settings, *, as_json: bool) -> None:
    where = {
        "grpc": f"{settings.grpc_host}:{settings.grpc_port}",
        "nats": ",".join(settings.nats_servers),
        "workspace": settings.workspace,
        "data": str(settings.data),
        "mode": settings.mode,
    }
    if as_json:
        print_json(where)
        return
    is_development = settings.nats_cluster is None
    note = ", for development: one server, one replica" if is_development else ""
    print_table(f"Koseki runs{note}", where)
    console.print("Ctrl-C stops it.")


@cli.command()
def status(
    data: DataOption = DATA_DEFAULT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what runs, how much it holds and how far the read side is behind."""
    from app.status import read_status

    found = run(read_status(Settings(data=data.resolve())))
    if as_json:
        print_json(found)
    else:
        print_table("Koseki", _flat(found))


@cli.command()
def verify(
    data: DataOption = DATA_DEFAULT,
    *,
    attestation: Annotated[
        Path | None, typer.Option(help="Compare the log with this file, from `koseki attest`.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="The key that the attestation must be signed with.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Fold in so many; else one for each core.", min=1, max=8)
    ] = None,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the log, and prove that the read side equals it; exit status 1 if it does not.

    With an attestation: prove that the log is still the one that was attested; with --nats also
    where nothing runs on --data.
    """
    settings = settings_of(data=data.resolve(), nats_cluster=cluster_of(nats, credentials))
    with counting("Replaying") as progress:
        if attestation is None:
            found = run(_prove(settings, progress, processes))
        elif public_key is None:
            fail("--attestation needs --public-key")
        else:
            found = run(_check(settings, attestation, public_key, progress=progress))
    if as_json:
        print_json(found)
    else:
        print_table("Proof", found)
    raise typer.Exit(0 if found["holds"] else 1)


async def _prove(
    settings: Settings, progress: Callable[[int], None], processes: int | None
) -> dict[str, Any]:
    from app.proof import prove

    return await prove(settings, progress=progress, processes=processes)


async def _check(
    settings: Settings,
    attestation: Path,
    public_key: Path,
    *,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    from app.attesting import check_file
    from app.status import running_settings

    if settings.nats_cluster is None:
        settings = running_settings(settings)
    return await check_file(attestation, public_key, settings=settings, progress=progress)


@cli.command()
def attest(data: DataOption = DATA_DEFAULT, *, as_json: JsonOption = False) -> None:
    """Sign the log's digest as of now; keep what is printed, and the public key, elsewhere."""
    found = run(_attest(Settings(data=data.resolve())))
    if as_json:
        print_json(found)
    else:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


async def _attest(settings: Settings) -> dict[str, Any]:
    from app.attesting import attest_now

    return attest_now(settings).model_dump(mode="json")


@cli.command()
def demo(*, as_json: JsonOption = False) -> None:
    """Run the main job on 6,919 real purchases, with failures on the way, and check it all."""
    from app.demo.run import run_demo

    found, agrees = run(run_demo(console))
    if as_json:
        print_json(found)
    raise typer.Exit(0 if agrees else 1)


@dead_letters.command("list")
def list_dead_letters(
    data: DataOption = DATA_DEFAULT,
    *,
    after: Annotated[int, typer.Option(help="Only those after this number.")] = 0,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1_000)] = 100,
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List messages that could not be used, with their reasons."""
    from app.letters import list_letters

    settings = Settings(data=data.resolve())
    letters = run(list_letters(settings, after=after, limit=limit, reason=reason))
    if as_json:
        print_json({"dead_letters": letters})
        return
    table = Table(title="Dead letters")
    for column in ("number", "reason", "subject", "received_at", "bytes"):
        table.add_column(column)
    for letter in letters:
        table.add_row(*(str(letter[column.header]) for column in table.columns))
    Console().print(table)


@dead_letters.command("show")
def show_dead_letter(
    number: int,
    data: DataOption = DATA_DEFAULT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one message as it came."""
    from app.letters import show_letter

    letter = run(show_letter(Settings(data=data.resolve()), number))
    if letter is None:
        console.print(f"There is no dead letter {number}.")
        raise typer.Exit(1)
    if as_json:
        print_json(letter)
    else:
        print_table(f"Dead letter {number}", letter)


@dead_letters.command("replay")
def replay_dead_letters(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[NUMBER]...", help="Only these; else all.")
    ] = None,
    data: DataOption = DATA_DEFAULT,
    *,
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send messages to intake again as they came, each once however often this is called."""
    from app.letters import replay_letters

    found = run(replay_letters(Settings(data=data.resolve()), numbers or (), reason=reason))
    counts = found if as_json else {name: len(sent) for name, sent in found.items()}
    print_found("Dead letters", counts, as_json=as_json)


@clock.command("advance")
def advance_clock(
    data: DataOption = DATA_DEFAULT,
    *,
    to: Annotated[str, typer.Option(help="A time of RFC 3339.")],
    as_json: JsonOption = False,
) -> None:
    """Turn a manual clock on to a time; return when every process knows it."""
    from app.turning import advance, read_time

    async def turn() -> dict[str, Any]:
        return await advance(Settings(data=data.resolve()), read_time(to))

    found = run(turn())
    if as_json:
        print_json(found)
    else:
        print_table("Clock", found)


@clock.command("show")
def show_clock(data: DataOption = DATA_DEFAULT, *, as_json: JsonOption = False) -> None:
    """Say what time it is for the log, and who turns its clock."""
    from app.turning import show

    found = run(show(Settings(data=data.resolve())))
    if as_json:
        print_json(found)
    else:
        print_table("Clock", found)


def _flat(found: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


if __name__ == "__main__":
    main()
