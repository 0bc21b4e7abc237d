"""A batch folded in parts is the batch folded whole: the same rows, sets and changes (R17)."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.ids import RecordId
from eventlog.port import Entry
from projections.dealing import Division, deal, divide
from projections.fold import TABLES, fold_batch
from projections.memory import MemoryTables
from projections.packing import unpack
from projections.parts import Folded, deal_out, fold_dealt, fold_task, written
from projections.segments.bitmaps import MEMBERS, customer_numbered, read_bitmap
from projections.segments.journal import behind, everything_after
from projections.segments.trait_indexes import SETS, members_at
from projections.tables import ReadTables, StoredTables
from tests.projections.histories import (
    History,
    batches,
    identifier,
    random_history,
    record_id,
    signal,
)
from tests.projections.segments.test_segments_against_oracle import World, drawn_tree


class ReadRows(MemoryTables):
    """Rows in memory that can be read as they are."""

    @contextmanager
    def snapshot(self) -> Iterator[StoredTables]:
        yield self


class Apart:
    """Folds what comes to it as if it came from another process."""

    def __init__(self, rows: ReadRows) -> None:
        self._rows = rows
        self._given = b"", b""

    def begin(self, share: bytes, task: bytes) -> None:
        self._given = share, task

    def result(self) -> Folded:
        share, task = self._given
        folded = fold_task(self._rows, unpack(share), pickle.loads(task))  # our own
        copied: Folded = pickle.loads(pickle.dumps(folded))  # our own
        return copied


def in_parts(rows: ReadRows, entries: Sequence[Entry], division: Division | None) -> bool:
    """Fold a batch in parts, or whole where it must be; say which."""
    dealt = deal_out(rows, division) if division else None
    if dealt is not None:
        folders = [Apart(rows) for _ in dealt.hands]
        if fold_dealt(rows, written(rows, dealt), folders) is not None:
            return True
    fold_batch(rows, entries)
    return False


def compare(
    entries: Sequence[Entry], *, size: int, hands: int = 2, ahead: bool = False
) -> tuple[ReadRows, int]:
    """Fold a history both ways; give the rows, and how many batches were folded in parts.

    Batches are divided when it is their turn, or `ahead`: before the one before is folded.
    """
    whole, parts, dealt = MemoryTables(), ReadRows(), 0
    divided: list[Division | None] = []
    cut = list(batches(entries, size))
    for number, batch in enumerate(cut):
        fold_batch(whole, batch)
        due = cut[len(divided) : number + 1 + ahead]
        divided += [divide(parts, later, hands) for later in due]
        dealt += in_parts(parts, batch, divided[number])
        assert parts.checkpoint == whole.checkpoint
    for table in TABLES:
        assert list(parts.scan(table, b"")) == list(whole.scan(table, b"")), table
    told, wanted = (list(everything_after(rows, behind(0))) for rows in (parts, whole))
    assert told == wanted
    assert members(parts, MEMBERS, read_bitmap_at) == members(whole, MEMBERS, read_bitmap_at)
    assert members(parts, SETS, members_at) == members(whole, SETS, members_at)
    return parts, dealt


def read_bitmap_at(tables: ReadTables, key: bytes) -> Iterable[int]:
    return read_bitmap(tables, key.decode())


def members(
    tables: ReadTables, table: str, read: Callable[[ReadTables, bytes], Iterable[int]]
) -> Mapping[bytes, set[RecordId | None]]:
    found = {
        key: {customer_numbered(tables, number) for number in read(tables, key)}
        for key, _ in tables.scan_stored(table, b"")
    }
    return {key: who for key, who in found.items() if who}


def long_world(seed: int, *, people: int, steps: int) -> list[Entry]:
    """A history of many people under rules that stand from its beginning."""
    drawn = random.Random(seed)
    world = World([drawn_tree(drawn, drawn.randrange(1, 5)) for _ in range(3)])
    for _ in range(steps):
        kind = drawn.choice((0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13))
        when, passed = drawn.randrange(60), drawn.randrange(40)
        world.step(kind, drawn.randrange(people), drawn.randrange(people), when=when, passed=passed)
    return world.history.entries


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    hands=st.integers(2, 4),
    size=st.integers(10, 120),
    ahead=st.booleans(),
)
def test_random_segments_histories_and_clocks(
    *, seed: int, hands: int, size: int, ahead: bool
) -> None:
    compare(long_world(seed, people=12, steps=160), size=size, hands=hands, ahead=ahead)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("hands", [2, 3])
def test_most_batches_of_many_people_are_folded_in_parts(*, hands: int, ahead: bool) -> None:
    _, dealt = compare(long_world(5, people=60, steps=900), size=120, hands=hands, ahead=ahead)
    assert dealt >= 4


def test_a_long_history_of_merges_and_repeated_signals() -> None:
    compare(random_history(11, events=1_500, records=40).entries, size=100)


def test_who_has_become_one_since_a_batch_was_divided_is_dealt_out_to_one() -> None:
    history, rows = History(), ReadRows()
    history.rules()
    people = range(1, 9)
    for number in people:
        history.link(number, identifier(f"{number}@shop.example"))
    fold_batch(rows, history.entries)
    merged = history.merge(1, 2)
    batch = [entry for n in people for entry in history.signals(n, signal(f"order-{n}"))]
    division = divide(rows, batch, len(people))
    assert division is not None
    assert len(set(division.streams.values())) == len(people)
    fold_batch(rows, merged)
    dealt = deal(rows, division)
    assert dealt is not None
    [owner] = [hand for hand in dealt.hands if record_id(1) in hand.records]
    assert record_id(2) in owner.records
    assert in_parts(rows, batch, division)
    whole = MemoryTables()
    fold_batch(whole, history.entries)
    assert rows.checkpoint == whole.checkpoint
