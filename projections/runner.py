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
from typing import NamedTuple, Protocol

from eventlog.errors import LogDamaged
from eventlog.port import Entry, LogReader
from projections.backlog import DEALT_EVENTS_MIN, Backlog
from projections.dealing import Division
from projections.fold import Rows, fold_batch
from projections.row_keys import in_thread
from projections.segments.filling import fill_slice
from projections.tables import Checkpoint

READ_EVENTS_MAX = 1_000


class Beside(Protocol):
    """Folds large batches together with other processes."""

    def divide(self, entries: Sequence[Entry]) -> Division | None:
        """Divide a batch, also while the one before is folded; None where it is to stay whole."""

    async def fold(self, division: Division, thread: Executor) -> Checkpoint | None:
        """Fold a batch that continues the checkpoint; None, and nothing is stored, if it cannot."""

    def end(self) -> None:
        """End the processes: a batch that is being folded fails."""

    def close(self) -> None:
        """Let go of them, when none is being folded any more."""


class _Batch(NamedTuple):
    """Whole appends, and how they are divided if they were ahead of their turn."""

    entries: Sequence[Entry]
    division: Division | None


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
        backlog = Backlog()
        follow = self._log.follow(
            after_revision=self._checkpoint.revision, batch_events_max=READ_EVENTS_MAX
        )
        reader = asyncio.create_task(backlog.read(follow))
        thread = ThreadPoolExecutor(1, "projector")  # a write transaction stays on its thread
        try:
            await self._fold(backlog, thread)
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

    async def _fold(self, backlog: Backlog, thread: Executor) -> None:
        batch: _Batch | None = None
        while True:
            while await self._fill_slice(thread) and batch is None and not backlog.has_more:
                pass
            batch = batch or _Batch(await backlog.take(), None)
            if not batch.entries:
                return
            ahead = asyncio.create_task(self._take_ahead(backlog))
            try:
                checkpoint = await self._fold_batch(batch, thread)
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            async with self._moved:
                self._checkpoint = checkpoint
                self._moved.notify_all()
            batch = None if ahead.cancelled() else ahead.result()

    async def _take_ahead(self, backlog: Backlog) -> _Batch:
        """Take the next batch if it is full before the one at hand is folded."""
        entries = await backlog.take_full()
        return _Batch(entries, self._division_of(entries))

    def _division_of(self, entries: Sequence[Entry]) -> Division | None:
        is_large = len(entries) >= DEALT_EVENTS_MIN
        return self._beside.divide(entries) if self._beside is not None and is_large else None

    async def _fold_batch(self, batch: _Batch, thread: Executor) -> Checkpoint:
        """Fold a batch, with others if it can be divided, by now at least, and they are there."""
        checkpoint = None
        division = batch.division or self._division_of(batch.entries)
        if self._beside is not None and division is not None:
            checkpoint = await self._beside.fold(division, thread)
        if checkpoint is None:
            work = partial(fold_batch, self._rows, batch.entries)
            checkpoint = await in_thread(work, self._rows.codec, executor=thread)
        return checkpoint

    async def _fill_slice(self, thread: Executor) -> bool:
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
