"""The whole log folded in shares: scanned once, spooled, folded side by side, and put together.

The caller says who folds (`Deal`): processes of Ray's in `app/folding.py`. This module opens none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from domain.ids import DecisionId
from eventlog.errors import LogDamaged
from eventlog.incoming import Raw
from eventlog.port import Entry
from projections.clock import LogTimes
from projections.parking import Parked
from projections.tables import Checkpoint
from replay.fold import READ_EVENTS_MAX, Progress
from replay.scanning import Scan
from replay.shares import Share, ShareFolder, put_together
from replay.spool import SpoolWriter, write_times


class StoredLog(Protocol):
    """A log that gives its messages as they are stored."""

    def read_stored(
        self, *, after_revision: int = 0, batch_events_max: int = 1_000
    ) -> AsyncIterator[list[Raw]]:
        """Yield messages in order, up to the end as of the call."""

    def outline(self, message: Raw) -> tuple[Entry, DecisionId | None]:
        """Give a message's place and what its envelope says."""


Deal = Callable[[bytes, int], Sequence[ShareFolder]]
"""Gives who folds the shares that were dealt out, of a log up to a revision."""

Fold = Callable[[Sequence[ShareFolder]], Awaitable[list[Share]]]
"""Has all shares folded at once."""


@dataclass(frozen=True, slots=True)
class Refolded:
    """What a fold in shares came to."""

    checkpoint: Checkpoint
    rows: int
    parked: tuple[Parked, ...]


async def refold(
    log: StoredLog,
    folder: Path,
    *,
    revision: int,
    shares: int,
    deal: Deal,
    fold: Fold,
    progress: Progress,
) -> Refolded:
    """Fold the log up to a revision in so many shares, with a folder for what lies between.

    Raises `LogDamaged`, `LogUnavailable` and `ReadSideError`.
    """
    scan = await _scanned(log, folder, revision, progress)
    shown = scan.times()
    dealt = scan.assign(shares)
    while True:
        write_times(folder, shown)
        folders = deal(dealt, revision)
        folded = await fold(folders)
        unreadable = set(chain.from_iterable(share.unreadable for share in folded))
        told = scan.times(unreadable=unreadable)
        if told == shown:
            break
        shown = told  # the clock was not turned by what nobody can read
    checkpoint, rows = await put_together(scan, LogTimes(shown), folders=folders, shares=folded)
    parked = sorted(chain.from_iterable(s.parked for s in folded), key=lambda p: p.key)
    return Refolded(checkpoint, rows, tuple(parked))


async def _scanned(log: StoredLog, folder: Path, revision: int, progress: Progress) -> Scan:
    scan, spool = Scan(), SpoolWriter(folder)
    try:
        reading = log.read_stored(batch_events_max=READ_EVENTS_MAX)
        async with aclosing(reading) as batches:  # type: ignore[type-var]  # generators, by contract
            async for batch in batches:
                for message in batch:
                    if message.revision > revision:
                        return scan
                    spool.write(scan.add(*log.outline(message)), message)
                progress(scan.revision)
        if scan.revision < revision:
            raise LogDamaged(f"the log ends at {scan.revision}, before {revision}")
    finally:
        spool.close()
    return scan
