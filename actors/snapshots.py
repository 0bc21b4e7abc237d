"""Snapshots as a host uses them: loaded in bulk to wake by, taken in the background.

Nothing depends on them. What cannot be loaded is folded from the log; what cannot be saved is
logged and tried again when the record has grown by as much again, or is woken by a long tail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

import structlog

from actors.faults import describe
from actors.packing import Unpackable, pack, schema, unpack
from domain.ids import RecordId
from domain.record import Record
from eventlog.errors import LogError
from eventlog.port import Head
from eventlog.snapshots.port import Snapshot, SnapshotStore

EVERY_EVENTS = 50
"""A record's events from one snapshot to the next; `docs/adr/0008` says what was measured."""

WAITING_MAX = 1_000
"""Records whose snapshots are still to be taken; what comes on top is dropped."""

BATCH_MAX = 100
UNPACKED_AT_ONCE_MAX = 20
"""About two milliseconds of work, after which others have their turn."""

TURNS_TO_SEND = 6
"""Turns of the loop after which a request is on the wire, so that work here does not hold it up."""

CLOSE_SECONDS_MAX = 2.0

_log = structlog.get_logger()


class RecordSnapshots:
    """Load and take snapshots of records; without a store, do neither."""

    def __init__(self, store: SnapshotStore | None) -> None:
        self._store = store
        self._waiting: dict[RecordId, tuple[Record, Head]] = {}
        self._dropped = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._saving: asyncio.Task[None] | None = None

    @property
    def are_taken(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    async def load(self, record_ids: Collection[RecordId]) -> Mapping[RecordId, Snapshot]:
        """Give the snapshot of each record that has one of today's schema."""
        if self._store is None or not record_ids:
            return {}
        try:
            return await self._store.load(record_ids, schema=schema())
        except LogError as error:
            _log.warning("snapshots_not_loaded", reason=error.reason, records=len(record_ids))
            return {}

    async def unpack(
        self, snapshots: Collection[Snapshot], *, is_beside_request: bool
    ) -> dict[RecordId, Record]:
        """Unpack what can be; beside a request that is about to be sent, after it was sent."""
        for _ in range(TURNS_TO_SEND if is_beside_request and snapshots else 0):
            await asyncio.sleep(0)
        states: dict[RecordId, Record] = {}
        for number, snapshot in enumerate(snapshots, start=1):
            try:
                states[snapshot.record_id] = unpack(snapshot.state)
            except Unpackable:
                _log.warning("snapshot_unreadable", record_id=snapshot.record_id)
            if number % UNPACKED_AT_ONCE_MAX == 0:
                await asyncio.sleep(0)
        return states

    def note(self, record: Record, head: Head, *, since_version: int) -> None:
        """Have a snapshot taken, if the record has grown far enough since a version."""
        if self._store is None or head.version // EVERY_EVENTS == since_version // EVERY_EVENTS:
            return
        self._waiting.pop(record.id, None)
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
            return
        self._waiting[record.id] = (record, head)
        if self._saving is None:
            self._saving = asyncio.create_task(self._save_for_ever(), name="save-snapshots")
        self._idle.clear()
        self._arrived.set()

    async def close(self) -> None:
        """Save what waits, if that takes no longer than a moment, and end."""
        if self._saving is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), CLOSE_SECONDS_MAX)
        self._saving.cancel()
        await asyncio.gather(self._saving, return_exceptions=True)
        self._saving = None

    async def _save_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._save_some()
            self._idle.set()

    async def _save_some(self) -> None:
        try:
            await self._store_packed(await self._packed())
        except LogError as error:
            _log.warning("snapshots_not_saved", reason=error.reason)
        except Exception as error:  # noqa: BLE001  # or none would be taken any more
            _log.error("snapshots_failed", **describe(error))
        if self._dropped:
            _log.warning("snapshots_dropped", snapshots=self._dropped)
            self._dropped = 0

    async def _packed(self) -> list[Snapshot]:
        """Pack some of what waits, with turns for others in between."""
        packed: list[Snapshot] = []
        while self._waiting and len(packed) < BATCH_MAX:
            record_id = next(iter(self._waiting))
            record, head = self._waiting.pop(record_id)
            packed.append(Snapshot(record_id, schema(), head, pack(record)))
            await asyncio.sleep(0)
        return packed

    async def _store_packed(self, snapshots: list[Snapshot]) -> None:
        if self._store is not None:
            await self._store.save(snapshots)
