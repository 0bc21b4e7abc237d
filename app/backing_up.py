"""What `koseki backup` and `koseki restore` do.

Beside its archive a backup keeps which keys were destroyed, so that no restore brings one back, and
an attestation of where it ends, if this machine has the key that signs them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from app.processes import hold
from app.reaching import reached
from app.settings import Settings, ensure_attestation_key, write_atomically
from app.supervisor import StartFailed
from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.restoring import Restoration
from projections.tables import Checkpoint
from replay.archive import Archive, Mark
from replay.attestation import attest
from replay.backup import back_up, check_archive, restore
from replay.erased import destroy_erased
from replay.fold import Progress

DESTROYED_FILE = "destroyed-keys.json"
_LOCK_FILE = "lock"


async def back_up_log(settings: Settings, folder: Path, *, progress: Progress) -> dict[str, Any]:
    """Add to a backup. Raises `StartFailed`, `ArchiveFault`, `LogError` and `OSError`."""
    async with reached(settings, role="reader") as (found, connection):
        _take(folder)
        archive = Archive(folder, found.workspace)
        begun = archive.end()
        log = JetStreamEventLog(connection, found.workspace)
        await log.require_stream()
        end = await back_up(log, archive, progress=progress)
        destroyed = await _note_destroyed(found, connection, folder)
    return {
        **_described(archive, end),
        "events_added": end.revision - begun.revision,
        "destroyed_keys": destroyed,
        "attestation": _attest(found, folder, end),
    }


async def restore_log(
    settings: Settings, folder: Path, *, replicas: int | None = None, progress: Progress
) -> dict[str, Any]:
    """Restore a backup into the empty log of a server; no key comes back that it says is gone.

    What is refused has destroyed no key. Without a number of `replicas` log and keys have as many
    as `koseki up` requires of them.
    Raises `StartFailed`, `ArchiveFault`, `LogError` and `OSError`.
    """
    archive = Archive.of(folder)
    settings = settings.model_copy(update={"workspace": archive.workspace})
    replicas = replicas or settings.replicas
    async with reached(settings, role="operator", may_run=False) as (_, connection):
        destroyed = _destroyed_in(folder)
        keys = JetStreamKeyStore(
            connection, settings.workspace, source=settings.workspace_key_source
        )
        await keys.open(replicas=replicas)
        log = JetStreamEventLog(connection, settings.workspace)
        end = await restore(
            archive,
            Restoration(connection, settings.workspace),
            log,
            replicas=replicas,
            once_checked=partial(keys.destroy, destroyed),
            progress=progress,
        )
        await log.ensure_stream(replicas=replicas)
        await destroy_erased(log, keys)
        gone = await keys.destroyed()
    return {**_described(archive, end), "destroyed_keys": len(gone)}


def check_backup(folder: Path, *, progress: Progress) -> dict[str, Any]:
    """Prove a backup with nothing but its files. Raises `ArchiveFault`, `LogError`, `OSError`."""
    archive = Archive.of(folder)
    return _described(archive, check_archive(archive, progress=progress))


def _described(archive: Archive, end: Mark) -> dict[str, Any]:
    return {
        "workspace": archive.workspace,
        "revision": end.revision,
        "log_digest": end.log_digest.hex(),
        "chunks": len(archive.chunks()),
    }


def _take(folder: Path) -> None:
    """Let no other backup write to the folder until this process ends. Raises `StartFailed`."""
    folder.mkdir(parents=True, exist_ok=True)
    if hold(folder / _LOCK_FILE) is None:
        raise StartFailed(f"another backup writes to {folder}")


async def _note_destroyed(settings: Settings, connection: Connection, folder: Path) -> int:
    """Keep which keys are destroyed; what was noted before stays noted for ever."""
    keys = JetStreamKeyStore(connection, settings.workspace, source=settings.workspace_key_source)
    noted = sorted({*_destroyed_in(folder), *await keys.destroyed()})
    write_atomically(folder / DESTROYED_FILE, orjson.dumps({"records": noted}))
    return len(noted)


def _destroyed_in(folder: Path) -> list[RecordId]:
    path = folder / DESTROYED_FILE
    if not path.exists():
        return []
    return [RecordId(record) for record in orjson.loads(path.read_bytes())["records"]]


def _attest(settings: Settings, folder: Path, end: Mark) -> str | None:
    """Sign where the backup ends; name the file."""
    if not settings.attestation_key_file.exists():
        return None
    key = ensure_attestation_key(settings)
    checkpoint = Checkpoint(
        revision=end.revision, event_digest=end.event_digest, log_digest=end.log_digest
    )
    signed = attest(settings.workspace, checkpoint, key, now=datetime.now(UTC))
    path = folder / f"attestation-{end.revision:020}.json"
    write_atomically(path, signed.model_dump_json().encode())
    return str(path)
