"""What every command of `koseki` is made of: options, ways to print, one line for what failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from app.settings import Settings
from eventlog.errors import LogError
from projections.errors import ReadSideError

DATA_DEFAULT = Path("koseki-data")
CLOCK_TICK_SECONDS = 0.001
console = Console(stderr=True)

DataOption = Annotated[
    Path, typer.Option("--data", envvar="KOSEKI_DATA", help="The folder of the installation.")
]
WorkspaceOption = Annotated[str, typer.Option("--workspace", help="The workspace.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ClusterOption = Annotated[
    str,
    typer.Option(
        "--nats", envvar="KOSEKI_NATS_SERVERS", help="Servers, by commas, that others run."
    ),
]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials", envvar="KOSEKI_NATS_CREDENTIALS", help="TOML: a table for each role; tls."
    ),
]
CustomerOption = Annotated[
    str, typer.Option("--customer", help="The customer's id, or any that it ever had.")
]


def run(work: Any) -> Any:  # noqa: ANN401  # any coroutine and its result
    """Run to the end; turn what a user can act on into one line and exit status 2."""
    from actors.clock_turning import ClockNotTurned
    from app.attesting import NotAnAttestation
    from app.nats_cluster import CredentialsFault
    from app.rehearsing import RulesFault
    from app.reopening import NotReopened
    from app.status import NotRunning
    from app.supervisor import StartFailed
    from domain.errors import DomainError
    from projections.segments.errors import UnknownSegment
    from replay.archive import ArchiveFault
    from services.client import CallFailed

    states = (NotRunning, StartFailed, ClockNotTurned, NotReopened)
    questions = (DomainError, UnknownSegment, CallFailed)
    files = (NotAnAttestation, CredentialsFault, ArchiveFault, RulesFault)
    try:
        return asyncio.run(work)
    except (*states, *files, *questions, LogError, ReadSideError, OSError) as error:
        fail(str(error))


def cluster_of(nats: str, credentials: Path | None, *, replicas: int = 3) -> dict[str, Any] | None:
    """Give the cluster's settings, for `Settings` to judge; none where no address is given."""
    if not nats:
        return None
    servers = tuple(nats.split(","))
    file = credentials.resolve() if credentials else None
    return {"servers": servers, "replicas": replicas, "credentials": file}


def settings_of(**fields: Any) -> Settings:  # noqa: ANN401  # `Settings` judges each
    """Make settings; say in one line what is wrong with them."""
    try:
        return Settings(**fields)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        fail("; ".join(faults))


def fail(why: str) -> NoReturn:
    """Say why in one line, and end with status 2."""
    console.print(why, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


@contextmanager
def counting(doing: str, what: str = "events") -> Iterator[Callable[[int], None]]:
    """Show how far something has come, and how fast, while it goes on."""
    begun = time.monotonic()

    def say(count: int) -> None:
        rate = count / max(time.monotonic() - begun, CLOCK_TICK_SECONDS)
        spinner.update(f"{doing}: {count:,} {what}, {rate:,.0f} a second")

    with console.status(doing) as spinner:
        yield say


def print_json(found: dict[str, Any]) -> None:
    """Print one JSON object; exact numbers as their decimal text."""
    typer.echo(orjson.dumps(found, default=_exact).decode())


def _exact(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError


def print_table(title: str, rows: dict[str, Any]) -> None:
    """Print names and values."""
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


def print_found(title: str, found: dict[str, Any], *, as_json: bool) -> None:
    """Print for people, or for programs."""
    if as_json:
        print_json(found)
    else:
        print_table(title, found)
