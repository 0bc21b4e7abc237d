"""What a process knows of the log beside the log (R3), and the guard that compares the two.

Marks of what was acknowledged, the read side's checkpoint and the last attestation, all in the data
folder. The log is not opened for writes or for answers before it agrees with each of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from app.attestations import last_attestation
from app.settings import Settings
from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.errors import LogDamaged
from eventlog.guard import LogGuard
from eventlog.jetstream import JetStreamEventLog
from eventlog.marks import Mark, read_marks
from eventlog.port import Head, Witness
from projections.errors import ReadSideError
from projections.heads import head_of
from projections.store import Store
from projections.tables import Checkpoint

READ_SIDE = "read_side"
ATTESTED = "attested"


class ReadSideHeads:
    """The read side, for a process that asks it where records end; opened once it is there.

    Records that are `closed` ended where their log no longer does, whatever the read side says.
    """

    def __init__(self, folder: Path, *, closed: Mapping[RecordId, Head] | None = None) -> None:
        self._folder = folder
        self._closed = closed or {}
        self._store: Store | None = None

    def checkpoint(self) -> Checkpoint:
        """Give how far the read side has come; the start, where there is none to read."""
        with suppress(ReadSideError):
            return self._opened().checkpoint
        return Checkpoint()

    def heads_of(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, Head]:
        """Give the heads of records as of the checkpoint; none, where there is none to read."""
        wanted = list(record_ids)
        heads = {r: self._closed[r] for r in wanted if r in self._closed}
        with suppress(ReadSideError), self._opened().snapshot() as tables:
            found = ((record_id, head_of(tables, record_id)) for record_id in wanted)
            heads = {record_id: head for record_id, head in found if head is not None} | heads
        return heads

    def close(self) -> None:
        """Close what was opened."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store.open_reader(self._folder)
        return self._store


def open_guard(
    connection: Connection,
    log: JetStreamEventLog,
    settings: Settings,
    *,
    checkpoint: Callable[[], Checkpoint],
) -> LogGuard:
    """Put a guard before everything that this process stores. Raises `LogError` or `OSError`."""
    guard = LogGuard(
        log,
        mark=Mark.open(settings.marks_folder),
        witnesses=lambda: known_witnesses(settings, checkpoint()),
        connection=lambda: connection.losses,
    )
    log.guard_by(guard)
    return guard


@asynccontextmanager
async def guarded(
    connection: Connection, log: JetStreamEventLog, settings: Settings
) -> AsyncIterator[LogGuard]:
    """Compare a log, and put a guard before what a short piece of work stores in it."""
    read_side = ReadSideHeads(settings.read_side_folder)
    guard = open_guard(connection, log, settings, checkpoint=read_side.checkpoint)
    try:
        await guard.check()
        yield guard
    finally:
        await guard.close()
        read_side.close()


def known_witnesses(settings: Settings, checkpoint: Checkpoint) -> list[Witness]:
    """Give what marks, checkpoint and the last attestation know. Raises `LogDamaged`."""
    found = [
        *read_marks(settings.marks_folder),
        Witness(READ_SIDE, checkpoint.revision, checkpoint.event_digest),
    ]
    try:
        attested = last_attestation(settings)
    except (OSError, ValueError):
        raise LogDamaged("the last attestation in the data folder cannot be read") from None
    if attested is not None:
        digest = bytes.fromhex(attested.event_digest)
        found.append(Witness(ATTESTED, attested.revision, digest))
    return found
