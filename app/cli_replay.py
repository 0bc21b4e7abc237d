"""The commands `koseki replay`, `show`, `diff` and `explain`: any past state, and why it was so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from app.console import (
    DATA_DEFAULT,
    ClusterOption,
    CredentialsOption,
    CustomerOption,
    DataOption,
    JsonOption,
    WorkspaceOption,
    cluster_of,
    console,
    counting,
    print_found,
    print_json,
    run,
    settings_of,
)
from app.settings import Settings

explain = typer.Typer(no_args_is_help=True, help="Why: a merge, or a segment's membership.")

AsOfOption = Annotated[
    str | None, typer.Option("--as-of", help="A revision, or a time known (RFC 3339); else now.")
]


NOBODY = "Nobody had this id or identifier then."

NamedOption = Annotated[
    str, typer.Option("--customer", help="The customer's id, or any that it ever had.")
]
HeldOption = Annotated[
    str, typer.Option("--identifier", help="In place of an id, what was held: NAMESPACE:VALUE.")
]


def _settings(data: Path, workspace: str, nats: str, credentials: Path | None) -> Settings:
    cluster = cluster_of(nats, credentials)
    return settings_of(data=data.resolve(), workspace=workspace, nats_cluster=cluster)


def replay(
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    until: Annotated[
        str | None, typer.Option(help="A revision, or a time known (RFC 3339); else all.")
    ] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's streams.")] = None,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fold the log again, whole or one customer, up to a past state. Nothing is written."""
    if customer is not None:
        show(
            customer,
            data,
            workspace,
            as_of=until,
            nats=nats,
            credentials=credentials,
            as_json=as_json,
        )
        return
    from app.replaying import replay_log

    with counting("Replaying") as progress:
        found = run(
            replay_log(_settings(data, workspace, nats, credentials), until, progress=progress)
        )
    print_found("Replayed", found, as_json=as_json)


def show(
    customer: NamedOption = "",
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    identifier: HeldOption = "",
    as_of: AsOfOption = None,
    happened: Annotated[
        str | None, typer.Option(help="Only facts that had happened by this time.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="Only what this purpose may see.")] = "audit",
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a customer as of a past state, from its own streams."""
    from app.replaying import show_customer

    settings = _settings(data, workspace, nats, credentials)
    found = run(
        show_customer(
            settings,
            customer,
            identifier=identifier,
            as_of=as_of,
            happened=happened,
            purpose=purpose,
        )
    )
    _print(f"Customer {customer or identifier}", found, as_json=as_json, nobody=NOBODY)


def diff(
    customer: CustomerOption,
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    earlier: Annotated[str, typer.Option("--from", help="A revision, or a time known.")],
    later: Annotated[
        str | None, typer.Option("--to", help="A revision, or a time known; else now.")
    ] = None,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what changed for a customer between two past states, and by which events."""
    from app.replaying import compare_customer

    settings = _settings(data, workspace, nats, credentials)
    changes = run(compare_customer(settings, customer, earlier=earlier, later=later))
    if as_json:
        print_json({"changes": changes})
        return
    for change in changes:
        typer.echo(f"{change['field']}: {_text(change['before'])} -> {_text(change['after'])}")
        for step in change["steps"]:
            by = ", ".join(step["types"]) or "time passed"
            typer.echo(f"  at {step['revision']}, {by}: {_text(step['value'])}")


@explain.command("merge")
def explain_merge(
    merge_id: Annotated[str, typer.Argument(metavar="ID", help="The merge's id.")],
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say by which rule, on what evidence and by whom two customers became one."""
    from app.replaying import merge_explained

    with counting("Looking") as progress:
        found = run(
            merge_explained(
                _settings(data, workspace, nats, credentials), merge_id, progress=progress
            )
        )
    _print(f"Merge {merge_id}", found, as_json=as_json, nobody="There was no such merge.")


@explain.command("membership")
def explain_membership(
    customer: NamedOption = "",
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    identifier: HeldOption = "",
    segment: Annotated[str, typer.Option(help="The segment's name.")],
    as_of: AsOfOption = None,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a customer is in a segment or out, since which event, and until when."""
    from app.replaying import membership_explained

    settings = _settings(data, workspace, nats, credentials)
    found = run(
        membership_explained(settings, segment, customer, identifier=identifier, as_of=as_of)
    )
    _print(f"Segment {segment}", found, as_json=as_json, nobody=NOBODY)


def _print(title: str, found: dict[str, Any] | None, *, as_json: bool, nobody: str) -> None:
    if found is None:
        console.print(nobody)
        raise typer.Exit(1)
    print_found(title, found, as_json=as_json)


def _text(value: object) -> str:
    return "nothing" if value is None else orjson.dumps(value).decode()
