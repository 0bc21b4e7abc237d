"""The commands `koseki keys …`, about the keys that seal what is personal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

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
    fail,
    print_found,
    run,
    settings_of,
)
from app.settings import Settings
from eventlog.keys.workspace_key import key_source

RETENTION_DAYS = 30
RETENTION_DAYS_MAX = 365

keys = typer.Typer(no_args_is_help=True, help="Keys that seal what is personal; none is shown.")

SourceOption = Annotated[
    str,
    typer.Option(
        "--workspace-key",
        envvar="KOSEKI_WORKSPACE_KEY",
        help="file:PATH, env:NAME or command:WORDS; else what --data has.",
    ),
]


@keys.command()
def status(
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    workspace_key: SourceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Count keys by the version of the workspace key that wraps them."""
    from app.keeping_keys import key_status

    settings = _settings(data, workspace, cluster_of(nats, credentials), workspace_key)
    with counting("Counting", "keys") as progress:
        found = run(key_status(settings, progress=progress))
    print_found("Keys", found, as_json=as_json)


@keys.command()
def rotate(
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    workspace_key: SourceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Wrap every key under the newest version of the workspace key, while everything goes on.

    Add the version to the source first; take the older away only when this has ended. Killed, it
    goes on when it is called again.
    """
    from app.keeping_keys import rotate_keys

    settings = _settings(data, workspace, cluster_of(nats, credentials), workspace_key)
    with counting("Rotating", "keys") as progress:
        found = run(rotate_keys(settings, progress=progress))
    print_found("Rotated", found, as_json=as_json)


@keys.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder apart from the log's.")],
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    retention_days: Annotated[
        int, typer.Option(help="Destroy the file after so long.", min=1, max=RETENTION_DAYS_MAX)
    ] = RETENTION_DAYS,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    workspace_key: SourceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Back wrapped keys up; destroy the files in DIR whose time is up.

    An erased person's key lives on in every key backup made before: erasure is complete only when
    those are gone.
    """
    from app.keeping_keys import save_keys

    settings = _settings(data, workspace, cluster_of(nats, credentials), workspace_key)
    with counting("Backing up", "keys") as progress:
        found = run(
            save_keys(
                settings,
                folder.resolve(),
                retention=timedelta(days=retention_days),
                progress=progress,
            )
        )
    print_found("Key backup", found, as_json=as_json)


@keys.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file from `keys backup`.")],
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    workspace_key: SourceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put back keys of records that have none, after the log: never one that was destroyed."""
    from app.keeping_keys import put_back_keys

    settings = _settings(data, workspace, cluster_of(nats, credentials), workspace_key)
    with counting("Restoring", "keys") as progress:
        found = run(put_back_keys(settings, file, progress=progress))
    print_found("Keys restored", found, as_json=as_json)


def _settings(
    data: Path, workspace: str, cluster: dict[str, Any] | None, workspace_key: str
) -> Settings:
    try:
        if workspace_key:
            key_source(workspace_key)
    except ValueError as error:
        fail(str(error))
    return settings_of(
        data=data.resolve(),
        workspace=workspace,
        nats_cluster=cluster,
        workspace_key=workspace_key,
    )
