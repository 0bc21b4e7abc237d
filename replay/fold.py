"""The whole log folded again, by the very folds of the projector: into memory, or elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from functools import partial
from typing import Protocol

from eventlog.errors import LogDamaged
from eventlog.port import Entry, LogReader
from projections.fold import Rows, fold_batch, memory_codec
from projections.memory import MemoryTables
from projections.row_keys import in_thread
from projections.tables import ReadTables
from replay.chain import ChainCheck

READ_EVENTS_MAX = 5_000

Progress = Callable[[int], None]
"""Told the revision that a replay has come to, once a batch."""


def silent(_: int) -> None:
    """Tell nobody."""


class Scratch(Rows, Protocol):
    """Rows to fold a whole log into, and to look at then; gone when that is done."""

    def snapshot(self) -> AbstractContextManager[ReadTables]:
        """Read them as of one checkpoint."""


Scratches = Callable[[LogReader, int], AbstractContextManager[Scratch]]
"""Gives scratch for the fold of a log up to a revision."""


class MemoryScratch(MemoryTables):
    """Scratch in memory."""

    @contextmanager
    def snapshot(self) -> Iterator[MemoryTables]:
        """Read them."""
        yield self


def in_memory(log: LogReader, _revision: int) -> AbstractContextManager[Scratch]:
    """Give scratch in memory: one to ten kilobytes for each event."""
    return nullcontext(MemoryScratch(memory_codec(log)))


async def read_checked(
    log: LogReader,
    *,
    through_revision: int | None = None,
    progress: Progress = silent,
    batch_events_max: int = READ_EVENTS_MAX,
) -> AsyncGenerator[list[Entry], None]:
    """Yield the log from its start, every chain checked; `LogDamaged` where it ends too early."""
    chain = ChainCheck()
    revision = 0
    reading = log.read(batch_events_max=batch_events_max)
    async with aclosing(reading) as batches:  # type: ignore[type-var]  # generators, by contract
        async for batch in batches:
            entries = _through(batch, through_revision)
            if entries:
                chain.check(entries)
                revision = entries[-1].revision
                progress(revision)
                yield entries
            if len(entries) < len(batch):
                return
    if through_revision is not None and revision < through_revision:
        raise LogDamaged(f"the log ends at {revision}, before {through_revision}")


async def fold_log(
    log: LogReader,
    *,
    through_revision: int | None = None,
    progress: Progress = silent,
    batch_events_max: int = READ_EVENTS_MAX,
) -> MemoryTables:
    """Fold the log, as of a revision or whole. The checkpoint of the tables holds D(r)."""
    tables = MemoryScratch(memory_codec(log))
    await fold_into(
        log,
        tables,
        through_revision=through_revision,
        progress=progress,
        batch_events_max=batch_events_max,
    )
    return tables


async def fold_into(
    log: LogReader,
    rows: Rows,
    *,
    through_revision: int | None = None,
    progress: Progress = silent,
    batch_events_max: int = READ_EVENTS_MAX,
) -> None:
    """Fold the log into empty rows, as `fold_log`."""
    reading = read_checked(
        log,
        through_revision=through_revision,
        progress=progress,
        batch_events_max=batch_events_max,
    )
    async with aclosing(reading) as batches:
        pending: list[Entry] = []
        async for entries in batches:
            pending += entries
            whole = _ended(pending)
            if whole:
                await _fold_with_keys(rows, pending[:whole])
                del pending[:whole]
        if pending:
            await _fold_with_keys(rows, pending)


def _ended(entries: Sequence[Entry]) -> int:
    """Count the entries up to the last that ends an append: a read may stop within one."""
    ends = (place for place in range(len(entries), 0, -1) if entries[place - 1].ends_append)
    return next(ends, 0)


async def _fold_with_keys(tables: Rows, entries: Sequence[Entry]) -> None:
    await in_thread(partial(fold_batch, tables, entries), tables.codec)


def _through(batch: list[Entry], revision: int | None) -> list[Entry]:
    if revision is None or batch[-1].revision <= revision:
        return batch
    return [entry for entry in batch if entry.revision <= revision]
