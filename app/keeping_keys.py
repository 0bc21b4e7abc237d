"""What `koseki keys` does: count, rotate, back up and restore wrapped keys; none is ever shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from app.nats_cluster import Role
from app.reaching import reached
from app.settings import Settings
from eventlog.errors import LogDamaged
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.backup import back_up_keys, destroy_expired, restore_keys
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.port import Progress
from replay.erased import destroy_erased


async def key_status(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Count keys by the version of the workspace key. Raises `StartFailed` or `LogError`."""
    async with _opened(settings, "reader") as (_, store, _):
        census = await store.census(progress=progress)
    return {
        "active_version": census.active,
        "keys_by_version": {str(version): n for version, n in census.by_version.items()},
        "destroyed": census.destroyed,
        "rotation_is_due": any(version < census.active for version in census.by_version),
    }


async def rotate_keys(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Wrap every key under the newest workspace key. Raises `StartFailed` or `LogError`."""
    async with _opened(settings, "operator") as (_, store, _):
        rotated = await store.rotate(progress=progress)
        await store.turn_over()
        census = await store.census()
    return {
        "rotated": rotated,
        "active_version": census.active,
        "keys_by_version": {str(version): n for version, n in census.by_version.items()},
    }


async def save_keys(
    settings: Settings, folder: Path, *, retention: timedelta, progress: Progress
) -> dict[str, Any]:
    """Back wrapped keys up, and destroy the backups in the folder whose time is up."""
    now = datetime.now(UTC)
    async with _opened(settings, "reader") as (workspace, store, _):
        file = await back_up_keys(
            store, folder, workspace, now=now, retention=retention, progress=progress
        )
    expired = destroy_expired(folder, now)
    return {
        "file": str(file),
        "destroy_by": (now + retention).isoformat(timespec="seconds"),
        "expired_destroyed": [str(path) for path in expired],
    }


async def put_back_keys(settings: Settings, file: Path, *, progress: Progress) -> dict[str, Any]:
    """Restore wrapped keys to a server on which the log is, and is whole.

    The log comes first: it says which keys are gone, and those are destroyed again before others
    are put back, but not for a file that is refused.
    """
    async with _opened(settings, "operator") as (workspace, store, log):
        done = await restore_keys(
            store,
            file,
            workspace,
            now=datetime.now(UTC),
            once_checked=partial(destroy_erased, log, store),
            progress=progress,
        )
    return done._asdict()


@asynccontextmanager
async def _opened(
    settings: Settings, role: Role
) -> AsyncIterator[tuple[str, JetStreamKeyStore, JetStreamEventLog]]:
    async with reached(settings, role=role) as (found, connection):
        log = JetStreamEventLog(connection, found.workspace)
        await log.require_stream()
        shape = await log.shape()
        if shape.faults:
            raise LogDamaged(f"the log's shape does not hold: {', '.join(shape.faults)}")
        source = found.workspace_key_source
        store = JetStreamKeyStore(connection, found.workspace, source=source)
        await store.open(replicas=found.replicas)
        yield found.workspace, store, log
