"""R10: events that cannot be folded park their customer, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from domain.ids import OpenMap, record_stream
from domain.signal_events import TraitsSet
from projections import counts, parking
from projections.errors import CustomerParked, PoisonEvent
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.views import customer_view, customer_view_by_identifier
from tests.projections.histories import (
    History,
    batches,
    identifier,
    random_history,
    record_id,
    signal,
)


@pytest.fixture
def history() -> History:
    history = History()
    history.rules()
    for number in (1, 2, 3):
        history.link(number, identifier(f"{number}@example.com"))
    return history


def folded(history: History, batch_events: int = 1_000) -> MemoryTables:
    tables = MemoryTables()
    for batch in batches(history.entries, batch_events):
        fold_batch(tables, batch)
    return tables


def is_parked(tables: MemoryTables, number: int) -> bool:
    try:
        customer_view(tables, record_id(number), "service")
    except CustomerParked:
        return True
    return False


def parked_numbers(tables: MemoryTables) -> list[int]:
    return [number for number in (1, 2, 3) if is_parked(tables, number)]


def test_an_unreadable_event_parks_its_customer_and_nobody_else(history: History) -> None:
    (spoilt,) = history.signals(1, signal("a"))
    history.spoil(spoilt.revision)
    (later,) = history.signals(1, signal("b"))
    history.signals(2, signal("c"))
    tables = folded(history)
    assert parked_numbers(tables) == [1]
    (row,) = parking.parked(tables)
    assert (row.key, row.revision, row.reason) == (record_id(1), spoilt.revision, "body: spoilt")
    assert parking.waiting(tables, record_id(1)) == (spoilt.revision, later.revision)
    assert counts.read_counts(tables).signals == 1


def test_all_records_of_the_customer_wait(history: History) -> None:
    history.merge(1, 2)
    (spoilt,) = history.signals(2, signal("a"))
    history.spoil(spoilt.revision)
    (later,) = history.signals(1, signal("b"))
    tables = folded(history)
    assert parked_numbers(tables) == [1, 2]
    assert parking.waiting(tables, record_id(1)) == (later.revision,)


@pytest.mark.parametrize(("spoilt", "other"), [(1, 2), (2, 1)])
def test_who_is_merged_with_a_parked_customer_waits_too(
    history: History, spoilt: int, other: int
) -> None:
    (entry,) = history.signals(spoilt, signal("a"))
    history.spoil(entry.revision)
    history.merge(spoilt, other)
    (later,) = history.signals(other, signal("b"))
    tables = folded(history)
    assert parked_numbers(tables) == [1, 2]
    assert later.revision in parking.waiting(tables, record_id(other))


@pytest.mark.parametrize("place", [0, 1])
def test_an_unreadable_merge_parks_both_sides(history: History, place: int) -> None:
    merge = history.merge(1, 2)
    history.spoil(merge[place].revision)
    history.signals(2, signal("b"))
    history.signals(1, signal("a"))
    assert parked_numbers(folded(history)) == [1, 2]


def test_an_unreadable_claim_parks_whoever_gets_the_identifier(history: History) -> None:
    known = identifier("late@example.com")
    claim, _ = history.link(2, known)
    history.spoil(claim.revision)
    tables = folded(history)
    assert parked_numbers(tables) == [2]
    with pytest.raises(CustomerParked):
        customer_view_by_identifier(tables, known.key, "service")


def test_a_failing_fold_parks_and_leaves_no_half_rows(history: History) -> None:
    clean = folded(history)
    traits = {"a": 1, "b": {1, 2}}
    body = TraitsSet.model_construct(None, source="shop", traits=cast("OpenMap", traits))
    (failing,) = history.append((record_stream(record_id(1)), body))
    history.signals(2, signal("a"))
    tables = folded(history)
    assert parked_numbers(tables) == [1]
    (row,) = parking.parked(tables)
    assert (row.revision, row.reason) == (failing.revision, "fold: TypeError")
    key = record_id(1).encode()
    assert tables.get("profiles", key) == clean.get("profiles", key)


def test_a_fault_that_is_not_the_events_is_raised(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    tables = MemoryTables()
    monkeypatch.setattr(tables, "load", fail)
    with pytest.raises(OSError):  # noqa: PT011  # the very class is the point
        fold_batch(tables, history.entries)
    assert tables.checkpoint.revision == 0


def test_a_poison_workspace_event_stops_the_fold(history: History) -> None:
    history.spoil(1)
    tables = MemoryTables()
    with pytest.raises(PoisonEvent) as raised:
        fold_batch(tables, history.entries)
    assert raised.value.revision == 1
    assert tables.checkpoint.revision == 0


def test_an_entry_without_a_reason_parks_all_the_same(history: History) -> None:
    (entry,) = history.signals(1, signal("a"))
    history.entries[-1] = replace(entry, event=None, fault=None)
    assert parked_numbers(folded(history)) == [1]


@pytest.mark.parametrize("seed", range(5))
def test_parking_does_not_depend_on_where_batches_end(seed: int) -> None:
    history = random_history(seed, events=400, records=12)
    for entry in history.entries[20 + seed :: 97]:
        if entry.stream.key:
            history.spoil(entry.revision)
    first = folded(history)
    assert list(parking.parked(first))
    assert folded(history, 1).checkpoint == folded(history, 37).checkpoint == first.checkpoint
