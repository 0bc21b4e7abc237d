"""The command `koseki export`: what one purpose may see as Parquet, or one person as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from app.cli_replay import AsOfOption
from app.console import (
    DATA_DEFAULT,
    ClusterOption,
    CredentialsOption,
    DataOption,
    JsonOption,
    WorkspaceOption,
    cluster_of,
    counting,
    fail,
    print_found,
    run,
    settings_of,
)
from app.settings import Settings


def export(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to; must not be there, or be empty.")
    ] = None,
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    purpose: Annotated[
        str, typer.Option(help="What it will be used for; only what this may see is exported.")
    ] = "",
    customer: Annotated[
        str, typer.Option(help="Instead: everything about one person, as JSON to print.")
    ] = "",
    as_of: AsOfOption = None,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everybody whom a purpose may see to Parquet files, whole or not at all.

    `audit` sees everything. What is personal stands in the files in the clear: an erasure cannot
    reach them. A past state is folded for it: in memory or, of more than 100,000 events, in a
    folder of its own below TMPDIR, which needs as much room as a read side.
    """
    settings = settings_of(
        data=data.resolve(), workspace=workspace, nats_cluster=cluster_of(nats, credentials)
    )
    if customer:
        _export_person(settings, customer, as_of=as_of)
        return
    if folder is None or not purpose:
        fail("name a folder and a purpose, or one person with --customer")
    from app.exporting import export_tables

    with counting("Exporting", "customers") as progress:
        found = run(
            export_tables(
                settings, folder.resolve(), purpose=purpose, as_of=as_of, progress=progress
            )
        )
    print_found("Exported", found, as_json=as_json)


def _export_person(settings: Settings, customer: str, *, as_of: str | None) -> None:
    from app.replaying import person_exported

    found = run(person_exported(settings, customer, as_of=as_of))
    if found is None:
        fail("nobody has this id")
    typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
