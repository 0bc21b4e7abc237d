"""The command `koseki export`: what one purpose may see, as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    print_found,
    run,
    settings_of,
)


def export(
    folder: Annotated[Path, typer.Argument(help="Where to; must not be there, or be empty.")],
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    purpose: Annotated[
        str, typer.Option(help="What it will be used for; only what this may see is exported.")
    ],
    as_of: AsOfOption = None,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everybody whom a purpose may see to Parquet files, whole or not at all.

    `audit` sees everything. What is personal stands in the files in the clear: an erasure cannot
    reach them. A past state is folded in memory; the read side as it stands is not.
    """
    from app.exporting import export_tables

    settings = settings_of(
        data=data.resolve(), workspace=workspace, nats_cluster=cluster_of(nats, credentials)
    )
    with counting("Exporting", "customers") as progress:
        found = run(
            export_tables(
                settings, folder.resolve(), purpose=purpose, as_of=as_of, progress=progress
            )
        )
    print_found("Exported", found, as_json=as_json)
