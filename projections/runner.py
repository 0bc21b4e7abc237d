"""The projector: follows the log from the checkpoint and folds it, one transaction per batch.

Called by the process that owns a read side. It never writes to the log. When anything but an
event's own fault goes wrong `run` raises, and its owner starts again from the checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import Protocol

from eventlog.errors import LogDamaged
from eventlog.port import Entry, LogReader
from projections.fold import Rows, fold_batch
from projections.row_keys import in_thread
from projections.segments.filling import fill_slice
from projections.tables import Checkpoint

BATCH_EVENTS_MAX = 5_000
"""Events a transaction, when so many wait; a lone event is folded as soon as it comes."""

BESIDE_EVENTS_MIN = 1_000
"""Of a batch that is folded with other processes; a smaller one is done before it is dealt out."""

READ_EVENTS_MAX = 1_000
QUEUED_READS_MAX = 10

_Read = list[Entry] | Exception | None
"""What came from the log: entries, why there are no more, or None at its end."""


class Beside(Protocol):
    """Folds large batches together with other processes."""

    async def fold(self, entries: Sequence[Entry], thread: Executor) -> Checkpoint | None:
        """Fold a batch that continues the checkpoint; None, and nothing is stored, if it cannot."""

    def end(self) -> None:
        """End the processes: a batch that is being folded fails."""

    def close(self) -> None:
        """Let go of them, when none is being folded any more."""


class Projector:
    """Fold one workspace's log into one read side."""

    def __init__(self, log: LogReader, rows: Rows, *, beside: Beside | None = None) -> None:
        self._log = log
        self._rows = rows
        self._beside = beside
        self._checkpoint = rows.checkpoint
        self._moved = asyncio.Condition()

    @property
    def checkpoint(self) -> Checkpoint:
        """How far the rows have come."""
        return self._checkpoint

    async def check(self) -> None:
        """Require the log's shape, and the checkpoint's event in its place; else `LogDamaged`."""
        self._checkpoint = self._rows.checkpoint
        shape = await self._log.shape()
        if shape.faults:
            raise LogDamaged(f"the log's shape does not hold: {', '.join(shape.faults)}")
        await require_checkpoint(self._log, self._checkpoint, shape.last_revision)

    async def run(self) -> None:
        """Check, then fold what comes until cancelled, or until the log's reader ends."""
        await self.check()
        reads: asyncio.Queue[_Read] = asyncio.Queue(QUEUED_READS_MAX)
        reader = asyncio.create_task(self._receive(reads))
        thread = ThreadPoolExecutor(1, "projector")  # a write transaction stays on its thread
        try:
            await self._fold(reads, thread)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._beside is not None:
                self._beside.end()
            thread.shutdown()
            if self._beside is not None:
                self._beside.close()

    async def wait_for(self, revision: int, *, timeout_seconds: float) -> None:
        """Wait until an event is folded; `TimeoutError` when it is not in time."""
        async with asyncio.timeout(timeout_seconds), self._moved:
            await self._moved.wait_for(lambda: self._checkpoint.revision >= revision)

    async def _receive(self, reads: asyncio.Queue[_Read]) -> None:
        follow = self._log.follow(
            after_revision=self._checkpoint.revision, batch_events_max=READ_EVENTS_MAX
        )
        try:
            async for entries in follow:
                await reads.put(entries)
        except Exception as error:  # noqa: BLE001  # handed to `run`, which raises it
            await reads.put(error)
        else:
            await reads.put(None)

    async def _fold(self, reads: asyncio.Queue[_Read], thread: ThreadPoolExecutor) -> None:
        pending: list[Entry] = []
        is_ended = False
        while not is_ended:
            while await self._fill_slice(thread) and reads.empty():
                pass
            is_ended = await _gather(reads, pending)
            whole = _whole_appends(pending)
            if not whole:
                continue
            batch, pending = pending[:whole], pending[whole:]
            checkpoint = await self._fold_batch(batch, thread)
            async with self._moved:
                self._checkpoint = checkpoint
                self._moved.notify_all()

    async def _fold_batch(self, batch: Sequence[Entry], thread: Executor) -> Checkpoint:
        """Fold a batch, with others if it is large and they are there."""
        checkpoint = None
        if self._beside is not None and len(batch) >= BESIDE_EVENTS_MIN:
            checkpoint = await self._beside.fold(batch, thread)
        if checkpoint is None:
            work = partial(fold_batch, self._rows, batch)
            checkpoint = await in_thread(work, self._rows.codec, executor=thread)
        return checkpoint

    async def _fill_slice(self, thread: ThreadPoolExecutor) -> bool:
        """Back-fill the segments that wait for some customers; true where more are left."""
        work = partial(fill_slice, self._rows)
        return await in_thread(work, self._rows.codec, executor=thread)


async def require_checkpoint(log: LogReader, checkpoint: Checkpoint, last_revision: int) -> None:
    """Require that the log holds the event that a checkpoint names; else `LogDamaged`."""
    if last_revision < checkpoint.revision:
        raise LogDamaged(f"the log ends at {last_revision}, before {checkpoint.revision}")
    if checkpoint.revision == 0:
        return
    reading = log.read(after_revision=checkpoint.revision - 1, batch_events_max=1)
    async with aclosing(reading) as batches:  # type: ignore[type-var]  # generators, by contract
        async for entries in batches:
            if entries[0].digest == checkpoint.event_digest:
                return
            break
    raise LogDamaged(f"event {checkpoint.revision} is not the one that was folded")


async def _gather(reads: asyncio.Queue[_Read], pending: list[Entry]) -> bool:
    """Wait for something from the log and take what else is there; true at the log's end."""
    read = await reads.get()
    while True:
        if read is None:
            return True
        if isinstance(read, Exception):
            raise read
        pending += read
        if reads.empty() or len(pending) + READ_EVENTS_MAX > BATCH_EVENTS_MAX:
            return False
        read = reads.get_nowait()


def _whole_appends(pending: Sequence[Entry]) -> int:
    """Count the entries up to the last one that ends an append."""
    for count in range(len(pending), 0, -1):
        if pending[count - 1].ends_append:
            return count
    return 0
