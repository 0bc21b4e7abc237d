"""The commands `koseki backup`, `koseki restore` and `koseki reopen`."""

from __future__ import annotations

import getpass
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
    print_found,
    run,
    settings_of,
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backup.")]


def backup(
    folder: FolderArgument,
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    check: Annotated[bool, typer.Option(help="Only prove what DIR holds, offline.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add to the backup in DIR what the log holds beyond it, while everything goes on.

    Events stay sealed, and keys are no part of it: see `koseki keys backup`.
    """
    from app.backing_up import back_up_log

    cluster = cluster_of(nats, credentials)
    settings = settings_of(data=data.resolve(), workspace=workspace, nats_cluster=cluster)
    with counting("Checking" if check else "Backing up") as progress:
        if check:
            found = run(_check(folder, progress))
        else:
            found = run(back_up_log(settings, folder.resolve(), progress=progress))
    print_found("Backup", found, as_json=as_json)


async def _check(folder: Path, progress: Any) -> dict[str, Any]:  # noqa: ANN401  # a callback
    from app.backing_up import check_backup

    return check_backup(folder, progress=progress)


def restore(
    folder: FolderArgument,
    data: DataOption = DATA_DEFAULT,
    *,
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    replicas: Annotated[
        int | None,
        typer.Option(help="Servers that keep each stream; else 3 with --nats.", min=1, max=5),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Restore the backup in DIR into an empty log, every event at its revision, and prove it.

    Interrupted, it goes on when it is called again; until it has ended nothing starts on the log.
    """
    from app.backing_up import restore_log

    settings = settings_of(data=data.resolve(), nats_cluster=cluster_of(nats, credentials))
    with counting("Restoring") as progress:
        found = run(restore_log(settings, folder.resolve(), replicas=replicas, progress=progress))
    print_found("Restored", found, as_json=as_json)


def reopen(
    data: DataOption = DATA_DEFAULT,
    workspace: WorkspaceOption = "main",
    *,
    accept_lost: Annotated[
        int | None, typer.Option(help="As many events as `koseki verify` says are gone.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who accepts that.")] = "",
    nats: ClusterOption = "",
    credentials: CredentialsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept that a damaged log has lost events, and open again what is proved whole.

    Records that lost events stay closed. Without --accept-lost it says what would be accepted.
    Nothing may run on --data.
    """
    from app.reopening import reopen as reopen_log

    cluster = cluster_of(nats, credentials)
    settings = settings_of(data=data.resolve(), workspace=workspace, nats_cluster=cluster)
    who = by or getpass.getuser()
    print_found(
        "Reopened", run(reopen_log(settings, accept_lost=accept_lost, by=who)), as_json=as_json
    )
