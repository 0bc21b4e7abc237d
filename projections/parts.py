"""A large batch folded in parts side by side, and stored as if it had been folded whole.

Each part is folded over the rows as they were before the batch (`fold_task`), in whatever process.
They are taken only where none has touched a row that another one changed: `join` says so, and who
asked folds the batch whole. What holds something of everybody is put together here.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol

from domain.ids import RecordId
from eventlog.keys.port import KeyAnswer
from eventlog.port import Entry
from projections import clock
from projections.clock import LogTimes
from projections.counts import COUNTS
from projections.dealing import Deal, Division, deal
from projections.errors import FoldFailed, PartRefused
from projections.fold import Rows, extend, fold_part, transaction_of
from projections.rows import Row, RowCodec
from projections.segments import bitmaps
from projections.segments.journal import Journal
from projections.segments.session import note_passed
from projections.sets import SetChange
from projections.tables import (
    Backing,
    Changes,
    Checkpoint,
    Part,
    ReadTables,
    StoredTables,
    Transaction,
)
from projections.tallies import TOTALS

_TOTALS = (COUNTS, TOTALS)
_KEY = b"workspace"


class SnapshotRows(Rows, Protocol):
    """Rows that can be read as they are while a transaction changes them."""

    def snapshot(self) -> AbstractContextManager[StoredTables]:
        """Read the rows as of one checkpoint."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with a share of a batch, over the rows at the revision before it."""

    times: LogTimes
    ours: frozenset[RecordId]
    """Whose events these are, and whose instants are due here."""
    first_number: int
    numbers: int
    """How many customers may be given a number, from the first on."""
    keys: Mapping[RecordId, KeyAnswer] | None
    """Of the records that are touched, if rows are sealed."""

    @property
    def revision(self) -> int:
        """The revision before the batch."""
        return self.times.first_revision - 1


@dataclass(frozen=True, slots=True)
class Folded:
    """What a task has come to, and what it adds to the rows that hold something of everybody."""

    part: Part
    added: Mapping[str, Mapping[str, int]]
    sets: Mapping[tuple[str, bytes], SetChange]
    """Of local sets, by table and key."""


class PartFolder(Protocol):
    """Folds one part at a time."""

    def begin(self, share: bytes, task: bytes) -> None:
        """Take packed events, and a pickled task. Raises `PartRefused`."""

    def result(self) -> Folded:
        """Give what it came to. Raises `PartRefused`, or what a fold raises."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """A batch that was dealt out: a task for each who is to fold."""

    entries: Sequence[Entry]
    times: LogTimes
    shares: Sequence[bytes]
    """The events of each, packed."""
    tasks: Sequence[bytes]
    """Pickled."""


def deal_out(rows: SnapshotRows, division: Division) -> Deal | None:
    """Deal out a batch that continues the checkpoint; None where it must stay whole."""
    with rows.snapshot() as before:
        return deal(before, division)


def written(rows: SnapshotRows, dealt: Deal) -> Dealt:
    """Write a task for each hand of a batch that continues the checkpoint. Raises `KeysNotHeld`."""
    with rows.snapshot() as before:
        tasks = [pickle.dumps(task) for task in tasks_of(before, dealt)]
    return Dealt(dealt.entries, dealt.times, [hand.share for hand in dealt.hands], tasks)


def fold_dealt(
    rows: SnapshotRows, dealt: Dealt, folders: Sequence[PartFolder]
) -> Checkpoint | None:
    """Have each fold its task, and store what they came to; None, and nothing is stored, if not.

    Raises what a fold raises, but for what lies with an event: the batch is to be folded whole.
    """
    given = list(zip(folders, dealt.shares, dealt.tasks, strict=True))
    begun = [folder for folder, share, task in given if _began(folder, share, task)]
    folded = [one for folder in begun if (one := _result(folder)) is not None]
    if len(folded) < len(folders):
        return None
    return join(rows, dealt, folded)


def _began(folder: PartFolder, share: bytes, task: bytes) -> bool:
    try:
        folder.begin(share, task)
    except PartRefused:
        return False
    return True


def _result(folder: PartFolder) -> Folded | None:
    try:
        return folder.result()
    except (FoldFailed, PartRefused):
        return None


def tasks_of(before: ReadTables, deal: Deal) -> list[Task]:
    """Make a task of each hand, with its keys. Raises `KeysNotHeld`."""
    before.need({record for hand in deal.hands for record in hand.records})
    number = bitmaps.next_number(before)
    tasks: list[Task] = []
    for hand in deal.hands:
        ours = frozenset(hand.records)
        keys = before.codec.keys_of(ours)
        tasks.append(Task(deal.times, ours, number, hand.newcomers, keys))
        number += hand.newcomers
    return tasks


def fold_task(before: ReadTables, entries: Sequence[Entry], task: Task) -> Folded:
    """Fold a share over rows that are only read. Raises `PartRefused`, or what a fold raises."""
    if before.checkpoint.revision != task.revision:
        raise PartRefused(f"the rows stand at {before.checkpoint.revision}, not at {task.revision}")
    tables = _PartTransaction(_Before(before))
    until = task.times.last_revision
    bitmaps.number_from(tables, task.first_number)
    fold_part(tables, entries, task.times, until=until, concerns=task.ours.__contains__)
    if bitmaps.next_number(tables) > task.first_number + task.numbers:
        raise PartRefused("there are more new customers than new records")
    added = {table: _added(before, tables, table) for table in _TOTALS}
    tables.take_out(clock.CLOCK, clock.KEY)
    return Folded(tables.hand_over(), added, tables.sets)


def join(rows: SnapshotRows, dealt: Dealt, folded: Sequence[Folded]) -> Checkpoint | None:
    """Store what the parts of a batch came to; None, and nothing is stored, if they met."""
    parts = [one.part for one in folded]
    if not all(a.is_apart(b) for n, a in enumerate(parts) for b in parts[:n]):
        return None
    entries, times = dealt.entries, dealt.times
    with transaction_of(rows) as transaction:
        log_digest = extend(transaction.checkpoint, entries)
        for one in folded:
            transaction.take_over(one.part)
            for table, amounts in one.added.items():
                _add(transaction, table, amounts)
            _store_local(transaction, one.part.local)
        for (table, key), change in _together(one.sets for one in folded).items():
            transaction.amend(table, key, change)
        last = entries[-1]
        clock.move_clock(transaction, times.after(last.revision))
        journal = Journal(transaction)
        for entry in entries:
            note_passed(transaction, journal, entry.revision, time_after=times.after)
        return transaction.commit(
            revision=last.revision, event_digest=last.digest, log_digest=log_digest
        )


def _added(before: ReadTables, tables: Transaction, table: str) -> dict[str, int]:
    was, now = before.get(table, _KEY) or {}, tables.take_out(table, _KEY) or {}
    return {name: amount - was.get(name, 0) for name, amount in now.items()}


def _add(transaction: Transaction, table: str, amounts: Mapping[str, int]) -> None:
    if amounts:
        known = transaction.get(table, _KEY) or {}
        row: Row = {name: known.get(name, 0) + amount for name, amount in amounts.items()}
        transaction.put(table, _KEY, row)


def _store_local(transaction: Transaction, local: Changes) -> None:
    """Take over local values; of the next number the greatest comes last."""
    for table, values in local.items():
        for key, value in values.items():
            transaction.store(table, key, value)


def _together(
    parts: Iterable[Mapping[tuple[str, bytes], SetChange]],
) -> dict[tuple[str, bytes], SetChange]:
    """Put together the changes of sets, each part's of other customers."""
    found: dict[tuple[str, bytes], SetChange] = {}
    for changes in parts:
        for place, change in changes.items():
            found[place] = found[place].then(change) if place in found else change
    return found


class _PartTransaction(Transaction):
    """Rows that one part changes."""

    def __init__(self, backing: Backing) -> None:
        super().__init__(backing)
        self.sets: dict[tuple[str, bytes], SetChange] = {}

    def amend(self, table: str, key: bytes, change: SetChange) -> None:
        """Keep the change of a set, for others have changes of it too."""
        known = self.sets.get((table, key))
        self.sets[table, key] = change if known is None else known.then(change)

    def make_room(self) -> None:
        """Hold everything: no more is dealt out than can be held."""


class _Before:
    """The rows that a part is folded over; nothing can be written to them."""

    def __init__(self, tables: ReadTables) -> None:
        self.checkpoint = tables.checkpoint
        self.codec: RowCodec = tables.codec
        self.load = tables.load
        self.scan_stored = tables.scan_stored

    def write(self, changes: Changes) -> NoReturn:
        """Refuse."""
        raise PartRefused(f"{len(changes)} tables of a part")

    def commit(self, changes: Changes, checkpoint: Checkpoint) -> NoReturn:
        """Refuse."""
        raise PartRefused(f"{len(changes)} tables of a part up to {checkpoint.revision}")

    def abort(self) -> None:
        """Leave everything as it is."""
