"""What `koseki keys` does: count, rotate, back up and restore wrapped keys; none is ever shown.

A rotation and a count are of all keys; the keys of dead letters are in no backup, as the letters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from actors.intake.letter_seal import FAMILY
from app.dead_letters import open_letter_keys
from app.nats_cluster import Role
from app.reaching import reached
from app.settings import Settings
from eventlog.connection import Connection
from eventlog.errors import LogDamaged
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.backup import back_up_keys, destroy_expired, restore_keys
from eventlog.keys.census import Census
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.places import Places
from eventlog.keys.port import Progress, silent
from replay.erased import destroy_erased


async def key_status(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Count keys by the version of the workspace key. Raises `StartFailed` or `LogError`."""
    async with _sound_log(settings, "reader") as (found, connection, _):
        return await _count(await _open_families(connection, found), progress=progress)


async def rotate_keys(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Wrap every key under the newest workspace key. Raises `StartFailed` or `LogError`."""
    async with _sound_log(settings, "operator") as (found, connection, _):
        families = await _open_families(connection, found)
        rotated = sum([await keys.rotate(progress=progress) for keys in families])
        for keys in families:
            await keys.turn_over()
        return {"rotated": rotated} | await _count(families)


async def save_keys(
    settings: Settings, folder: Path, *, retention: timedelta, progress: Progress
) -> dict[str, Any]:
    """Back wrapped keys up, and destroy the backups in the folder whose time is up."""
    now = datetime.now(UTC)
    async with _sound_log(settings, "reader") as (found, connection, _):
        store = await _open_record_keys(connection, found)
        file = await back_up_keys(
            store, folder, found.workspace, now=now, retention=retention, progress=progress
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
    async with _sound_log(settings, "operator") as (found, connection, log):
        store = await _open_record_keys(connection, found)
        done = await restore_keys(
            store,
            file,
            found.workspace,
            now=datetime.now(UTC),
            once_checked=partial(destroy_erased, log, store),
            progress=progress,
        )
    return done._asdict()


@asynccontextmanager
async def _sound_log(
    settings: Settings, role: Role
) -> AsyncIterator[tuple[Settings, Connection, JetStreamEventLog]]:
    async with reached(settings, role=role) as (found, connection):
        log = JetStreamEventLog(connection, found.workspace)
        await log.require_stream()
        shape = await log.shape()
        if shape.faults:
            raise LogDamaged(f"the log's shape does not hold: {', '.join(shape.faults)}")
        yield found, connection, log


async def _open_record_keys(connection: Connection, settings: Settings) -> JetStreamKeyStore:
    source = settings.workspace_key_source
    store = JetStreamKeyStore(connection, settings.workspace, source=source)
    await store.open(replicas=settings.replicas)
    return store


async def _open_families(connection: Connection, settings: Settings) -> list[JetStreamKeyStore]:
    """Open all that the workspace key wraps: keys of records, then of dead letters, if any."""
    families = [await _open_record_keys(connection, settings)]
    if await Places(JetStreamApi(connection), settings.workspace, family=FAMILY).find():
        families.append(await open_letter_keys(connection, settings))
    return families


async def _count(
    families: Sequence[JetStreamKeyStore], *, progress: Progress = silent
) -> dict[str, Any]:
    records, *letters = [await keys.census(progress=progress) for keys in families]
    return {
        "active_version": records.active,
        "keys_by_version": _named(records),
        "destroyed": records.destroyed,
        "letter_keys_by_version": _named(*letters),
        "rotation_is_due": any(census.rotation_is_due for census in (records, *letters)),
    }


def _named(*censuses: Census) -> dict[str, int]:
    return {str(version): n for census in censuses for version, n in census.by_version.items()}
