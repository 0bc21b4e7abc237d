"""The commands `koseki identity`: the rules of who is who, and what others would come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from app.console import (
    DATA_DEFAULT,
    ClusterOption,
    CredentialsOption,
    DataOption,
    JsonOption,
    WorkspaceOption,
    cluster_of,
    counting,
    print_json,
    print_table,
    run,
    settings_of,
)

SHOWN_MAX = 20
"""Customers that are printed for people; with `--json` all that are listed."""

identity = typer.Typer(no_args_is_help=True, help="Who is who: its rules, and others tried.")


@identity.command("rules")
def rules(
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the identity rules that hold now, as `identity replay --rules` takes them."""
    from app.rehearsing import present_rules

    settings = settings_of(
        data=data.resolve(), workspace=workspace, nats_cluster=cluster_of(nats, credentials)
    )
    found = run(present_rules(settings))
    if as_json:
        print_json(found)
    else:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


@identity.command("replay")
def replay(
    rules_file: Annotated[
        Path, typer.Option("--rules", help="JSON, as `koseki identity rules` prints it.")
    ],
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try other identity rules on the whole log: who would join, who would part.

    Nothing is written: neither events nor rules. Of a message that named nobody new the log tells
    the record, not by which identifiers it came: a customer who would lose some, as under lower
    limits, might part as well. Rules that write known values otherwise may be tried, not set.
    """
    from app.rehearsing import read_rules_file, rehearse_rules

    settings = settings_of(
        data=data.resolve(), workspace=workspace, nats_cluster=cluster_of(nats, credentials)
    )

    async def work() -> dict[str, Any]:
        with counting("Replaying") as progress:
            return await rehearse_rules(settings, read_rules_file(rules_file), progress=progress)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table("Under these rules", {n: v for n, v in found.items() if n not in _LISTS})
    for joining in found["would_join"][:SHOWN_MAX]:
        met = ", ".join(joining["met_in"]) or "explicit merges"
        typer.echo(f"would join, by {met}: {' '.join(joining['customers'])}")
    for parting in found["would_part"][:SHOWN_MAX]:
        sides = " | ".join(" ".join(side) for side in parting["into"])
        typer.echo(f"would part: {parting['customer']} into {sides}")
    for losing in found["would_lose"][:SHOWN_MAX]:
        names = ", ".join(losing["namespaces"])
        typer.echo(f"would lose identifiers of {names}: {losing['customer']}")


_LISTS = ("would_join", "would_part", "would_lose")
