"""A log folded in shares, side by side, and the shares put together again: one digest (R17).

Each share folds the events of some customers, and the workspace's rules, with the read side's own
folds (`ShareFold`), and is let go of once its digest is known. Rows are each one share's, but for a
few: totals are added up, and signals whose copies lie in several shares are told apart as a single
fold does.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple, Protocol

from domain.ids import StreamKind
from eventlog.port import Entry
from projections.clock import CLOCK, LogTimes, clock_rows
from projections.copies import REPEATS, SIGNALS
from projections.counts import COUNTS
from projections.fold import TABLES, fold_share, let_time_pass
from projections.memory import MemoryTables
from projections.parking import Parked, parked
from projections.row_keys import in_thread
from projections.rows import Row, RowCodec, encode_row, row_digest
from projections.rules import RULES
from projections.segments.definitions import SEGMENT_RULES, SEGMENTS
from projections.segments.journal import LOCAL_TABLES as JOURNAL_TABLES
from projections.segments.session import Session
from projections.tables import DIGEST_MODULUS, Changes, Checkpoint
from projections.tallies import TOTALS
from replay.scanning import Scan

FOLDED_AT_ONCE = 5_000
PARKED_NAMED_MAX = 20
KEY_DIGITS = 15
"""Hexadecimal digits of a signal's key by which copies in several shares are looked for."""

_OF_EVERYBODY = (COUNTS, TOTALS, SEGMENT_RULES, CLOCK)
"""Tables whose one row each share has a part of."""

_OF_THE_WORKSPACE = (RULES, SEGMENTS)
"""Tables that each share has whole."""


class Copy(NamedTuple):
    """A record's copy of a signal, as a row without what says of further copies."""

    key: str
    row: Row
    is_first: bool
    """In its share."""

    def digest(self, also: Sequence[str], *, is_first: bool) -> int:
        """Give what it adds to the digest, as the first copy of all or as a further one."""
        if is_first:
            row = {**self.row, "also": list(also)} if also else self.row
            return row_digest(SIGNALS, self.key.encode(), encode_row(row))
        place = f"{self.row['record']}/{self.key}".encode()
        return row_digest(REPEATS, place, encode_row(self.row))


@dataclass(slots=True)
class Share:
    """What one share comes to: the digest over its own rows, and its part of the others."""

    digest: int
    rows: int
    of_everybody: dict[str, Row]
    of_workspace: int
    signals: array[int]
    unreadable: list[int]
    parked: list[Parked] = field(default_factory=list)


class ShareFolder(Protocol):
    """Folds one share; in a process of its own, or in this one."""

    async def share(self) -> Share:
        """Fold it. Raises `LogError` and `ReadSideError`."""

    async def copies_of(self, signals: Collection[int]) -> list[Copy]:
        """Give its copies of these signals, by the first digits of their keys."""


class _WithoutJournal(MemoryTables):
    """Rows of a fold that is digested, not watched: the changes told on the way are half of it."""

    def _take_over(self, changes: Changes) -> None:
        super()._take_over({t: of for t, of in changes.items() if t not in JOURNAL_TABLES})


class ShareFold:
    """Folds the events of one share, in order."""

    def __init__(
        self,
        codec: RowCodec,
        times: LogTimes,
        *,
        revision: int,
        is_first: bool,
        size: int = FOLDED_AT_ONCE,
    ) -> None:
        self.tables: MemoryTables = _WithoutJournal(codec)
        """Nobody needs them once the copies of signals are written (`copies_file.py`)."""
        self._times = times
        self._revision = revision
        self._is_first = is_first
        self._size = size
        self._pending: list[Entry] = []
        self._unreadable: list[int] = []
        self._of_workspace = 0
        self.events = 0

    async def add(self, entries: Sequence[Entry]) -> None:
        """Fold more events; decisions are folded whole."""
        self._unreadable += [e.revision for e in entries if e.event is None]
        self._of_workspace += sum(e.stream.kind is StreamKind.WORKSPACE for e in entries)
        self._pending += entries
        if len(self._pending) >= self._size:
            await self._fold(_whole_decisions(self._pending))

    async def finish(self) -> Share:
        """Fold what is left, and let time pass to the end."""
        await self._fold(len(self._pending))
        if self._revision:
            to = self._times.after(self._revision)
            begin = partial(Session, reached=self._times.reached)
            work = partial(let_time_pass, self.tables, to, begin)
            await in_thread(work, self.tables.codec)
        return self._share()

    async def _fold(self, count: int) -> None:
        entries = self._pending[:count]
        if not entries:
            return
        work = partial(fold_share, self.tables, entries, self._times)
        await in_thread(work, self.tables.codec)
        del self._pending[:count]
        self.events += len(entries)

    def _share(self) -> Share:
        tables = self.tables
        left_out = _OF_EVERYBODY if self._is_first else (*_OF_EVERYBODY, *_OF_THE_WORKSPACE)
        digest = int.from_bytes(tables.checkpoint.rows_digest, "big")
        for table in left_out:
            for key, stored in tables.scan_stored(table, b""):
                digest -= tables.codec.digest(table, key, stored)
        return Share(
            digest=digest % DIGEST_MODULUS,
            rows=sum(tables.count(table) for table in TABLES if table not in left_out),
            of_workspace=self._of_workspace,
            of_everybody={t: row for t in _OF_EVERYBODY for _, row in tables.scan(t, b"")},
            signals=array("q", map(short, (key for key, _ in tables.scan_stored(SIGNALS, b"")))),
            unreadable=self._unreadable,
            parked=[p for p, _ in zip(parked(tables), range(PARKED_NAMED_MAX), strict=False)],
        )


async def put_together(
    scan: Scan, times: LogTimes, *, folders: Sequence[ShareFolder], shares: Sequence[Share]
) -> tuple[Checkpoint, int]:
    """Give the checkpoint, with the digest over all rows, and how many rows there are."""
    digest = sum(share.digest for share in shares)
    rows = sum(share.rows for share in shares)
    for table, key, row in (
        *_added_up(shares),
        *clock_rows(times.after, scan.revision),
    ):
        digest += row_digest(table, key, encode_row(row))
        rows += 1
    digest += await _repeated(folders, shares)
    rows_digest = (digest % DIGEST_MODULUS).to_bytes(32, "big")
    return Checkpoint(scan.revision, scan.event_digest, scan.log_digest, rows_digest), rows


def _added_up(shares: Sequence[Share]) -> Iterator[tuple[str, bytes, Row]]:
    """Give the rows that hold something of everybody; the workspace's events were in each share."""
    for table in (COUNTS, TOTALS):
        parts = [share.of_everybody[table] for share in shares if table in share.of_everybody]
        if parts:
            total: Row = {name: sum(part[name] for part in parts) for name in parts[0]}
            if table == COUNTS:
                total["events"] -= sum(share.of_workspace for share in shares[1:])
            yield table, b"workspace", total
    rules = [s.of_everybody[SEGMENT_RULES] for s in shares if SEGMENT_RULES in s.of_everybody]
    if rules:
        heard = sorted(set(chain.from_iterable(row["sources"] for row in rules)))
        yield SEGMENT_RULES, b"workspace", {**rules[0], "sources": heard}


async def _repeated(folders: Sequence[ShareFolder], shares: Sequence[Share]) -> int:
    """Say by how much the digest changes where copies of a signal lie in several shares."""
    signals = _several(share.signals for share in shares)
    if not signals:
        return 0
    copies: defaultdict[str, list[Copy]] = defaultdict(list)
    for folder in folders:
        for copy in await folder.copies_of(signals):
            copies[copy.key].append(copy)
    return sum(_difference(found) for found in copies.values())


def _difference(copies: Sequence[Copy]) -> int:
    """Take a signal's copies as each share has them for what they are together: by revision."""
    ordered = sorted(copies, key=lambda copy: int(copy.row["revision"]))
    first, *further = ordered
    difference = first.digest([copy.row["record"] for copy in further], is_first=True)
    difference += sum(copy.digest((), is_first=False) for copy in further)
    also: list[str] = []
    for copy in reversed(copies):  # of each share the first, then those that it names
        if copy.is_first:
            difference -= copy.digest(also[::-1], is_first=True)
            also = []
        else:
            also.append(copy.row["record"])
            difference -= copy.digest((), is_first=False)
    return difference


def _several(parts: Iterable[Sequence[int]]) -> frozenset[int]:
    """Name the numbers that are in several of these."""
    numbers = sorted(chain.from_iterable(parts))
    return frozenset(one for one, other in pairwise(numbers) if one == other)


def short(key: bytes) -> int:
    """Give the first digits of a signal's key."""
    return int(key[:KEY_DIGITS], 16)


def _whole_decisions(entries: Sequence[Entry]) -> int:
    """Count the entries before the last decision, which may go on."""
    last = entries[-1].event
    if last is None:
        return len(entries)
    count = len(entries)
    while count and _is_of(entries[count - 1], last.decision_id):
        count -= 1
    return count


def _is_of(entry: Entry, decision: str) -> bool:
    return entry.event is not None and entry.event.decision_id == decision
