"""Sets that audiences are counted from: proved by the rows beside them, and each fault is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from eventlog.port import EventLog
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.segments.active import purpose_set
from projections.segments.bitmaps import CUSTOMERS, MEMBERS, NUMBERS, number_of
from projections.segments.filling import fill_slice
from projections.segments.trait_indexes import PRESENT, SETS, VALUES
from projections.sets import SetChange, read_set
from projections.store import Store, WritableStore
from projections.tables import ReadTables, Tables
from replay.divergence import Difference, Divergence
from replay.sets import SetProof
from replay.verify import Verification, verify
from tests.projections.histories import ListedLog, batches, record_id
from tests.projections.segments.test_segments_against_oracle import world_of
from tests.projections.segments.test_trait_indexes import ASKED, TRAITS, Indexed

Damage = Callable[[Tables, int], None]
PEOPLE = 6
SLOT = "analytics/plan"


def proof_of(tables: ReadTables) -> SetProof:
    proof = SetProof(tables)
    for _ in proof.steps():
        pass
    return proof


@pytest.fixture
def history() -> Indexed:
    history = Indexed()
    history.index("plan", "analytics")
    for number in range(PEOPLE):
        history.set(number, plan="pro" if number % 2 else "free")
    return history


@pytest.fixture
def store(history: Indexed, tmp_path: Path) -> WritableStore:
    store = Store.open_writer(tmp_path)
    fold_batch(store, history.entries)
    return store


async def verified(history: Indexed, store: Store) -> Verification:
    log = cast("EventLog", ListedLog(history.entries))
    with store.snapshot() as snapshot:
        return await verify(log, snapshot)


def numbered(tables: ReadTables, number: int) -> int:
    found = number_of(tables, record_id(number))
    assert found is not None
    return found


def damage(store: WritableStore, how: Damage, *, number: int = 1) -> None:
    """Change what is stored behind the projector's back, of one person."""
    with store.snapshot() as snapshot:
        whom = numbered(snapshot, number)
    at, transaction = store.checkpoint, store.begin()
    how(transaction, whom)
    transaction.commit(revision=at.revision, event_digest=at.event_digest, log_digest=at.log_digest)


def flip(table: str, key: bytes) -> Damage:
    """Take somebody out of a set, or put somebody in."""

    def how(tables: Tables, number: int) -> None:
        flipped = read_set(tables.load(table, key)) ^ BitMap([number])
        tables.store(table, key, flipped.serialize())

    return how


async def test_sets_that_the_rows_give_are_proved(history: Indexed, store: WritableStore) -> None:
    found = await verified(history, store)
    assert (found.holds, found.divergences) == (True, 0)
    assert found.sets_compared > 3


@pytest.mark.parametrize("name", ["~everyone", purpose_set("service"), purpose_set("analytics")])
async def test_a_member_that_was_flipped_is_named_with_its_set(
    history: Indexed, store: WritableStore, name: str
) -> None:
    with store.snapshot() as tables:
        was_in = numbered(tables, 1) in read_set(tables.load(MEMBERS, name.encode()))
    damage(store, flip(MEMBERS, name.encode()))
    found = await verified(history, store)
    assert (found.holds, found.faults, found.divergences) == (False, ["sets_changed"], 1)
    difference: Difference = "missing" if was_in else "unexpected"
    revision = history.entries[-1].revision
    assert found.first == Divergence(
        MEMBERS, name, difference, record=record_id(1), revision=revision
    )


def set_of_plan(tables: ReadTables, plan: str) -> bytes:
    """Find the place of the set of one plan: of those whose number is even, or odd."""
    someone = numbered(tables, 1 if plan == "pro" else 0)
    return next(
        key
        for key, stored in tables.scan_stored(SETS, b"")
        if not key.endswith(PRESENT) and someone in read_set(stored)
    )


@pytest.mark.parametrize(("number", "difference"), [(3, "missing"), (2, "unexpected")])
async def test_a_missing_and_a_surplus_entry_of_a_trait_index_are_named(
    history: Indexed, store: WritableStore, number: int, difference: str
) -> None:
    with store.snapshot() as tables:
        place = set_of_plan(tables, "pro")
    damage(store, flip(SETS, place), number=number)
    found = await verified(history, store)
    assert (found.faults, found.divergences, found.first is None) == (["sets_changed"], 1, False)
    assert found.first is not None
    told = (found.first.table, found.first.key, found.first.difference, found.first.record)
    assert told == (SETS, SLOT, difference, record_id(number))


@pytest.mark.parametrize("is_left", [True, False])
async def test_a_value_that_the_rows_do_not_give_is_named(
    history: Indexed, store: WritableStore, *, is_left: bool
) -> None:
    def how(tables: Tables, number: int) -> None:
        [(place, _)] = [
            (key, value)
            for key, value in tables.scan_stored(VALUES, b"")
            if int(key.partition(b"/")[2], 16) == number
        ]
        tables.store(VALUES, place, b"another" if is_left else None)

    damage(store, how)
    found = await verified(history, store)
    assert found.first is not None
    assert (found.first.table, found.first.record) == (VALUES, record_id(1))
    assert found.first.difference == ("different" if is_left else "missing")


async def test_a_set_that_cannot_be_read_and_a_number_that_is_gone_are_named(
    history: Indexed, store: WritableStore
) -> None:
    damage(store, lambda tables, _: tables.store(MEMBERS, b"~everyone", b"x"))
    unreadable = await verified(history, store)
    assert unreadable.first is not None
    assert (unreadable.first.key, unreadable.first.difference) == ("~everyone", "different")
    damage(store, lambda tables, _: tables.store(NUMBERS, record_id(1).encode(), None))
    nameless = await verified(history, store)
    assert nameless.first is not None
    assert (nameless.first.table, nameless.first.key) == (NUMBERS, record_id(1))


async def test_a_number_that_names_somebody_else_is_named(
    history: Indexed, store: WritableStore
) -> None:
    def how(tables: Tables, number: int) -> None:
        tables.store(CUSTOMERS, number.to_bytes(4, "big"), record_id(2).encode())

    damage(store, how)
    found = await verified(history, store)
    assert found.first is not None
    assert (found.first.table, found.first.record) == (CUSTOMERS, record_id(1))


def test_who_is_still_to_be_indexed_does_not_differ() -> None:
    history = Indexed()
    for number in range(PEOPLE):
        history.set(number, plan="pro")
    history.index("plan", "analytics")
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    while fill_slice(tables, customers_max=2):
        assert proof_of(tables).first is None
    history.drop("plan")
    fold_batch(tables, history.entries[-1:])
    assert proof_of(tables).first is None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_no_history_leaves_an_index_that_its_rows_do_not_give(seed: int) -> None:
    drawn, history = random.Random(seed), Indexed()
    for trait in TRAITS:
        history.index(trait, *ASKED, open_reason=drawn.choice([None, "plans"]))
    for _ in range(drawn.randrange(10, 40)):
        history.step(drawn)
    tables = MemoryTables()
    for append in batches(history.entries, 1):
        fold_batch(tables, append)
        if drawn.random() < 0.7:
            fill_slice(tables, customers_max=drawn.choice([1, 2, 100]))
        assert proof_of(tables).first is None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_no_history_leaves_a_segment_that_its_rows_do_not_give(seed: int, size: int) -> None:
    tables = MemoryTables()
    for batch in batches(world_of(seed).history.entries, size):
        fold_batch(tables, batch)
        assert proof_of(tables).first is None


async def test_sets_are_not_looked_at_where_the_rows_do_not_hold(
    history: Indexed, store: WritableStore
) -> None:
    def how(tables: Tables, number: int) -> None:
        tables.delete("memberships", record_id(1).encode())
        tables.amend(MEMBERS, b"~everyone", SetChange(removed=BitMap([number])))

    damage(store, how)
    found = await verified(history, store)
    assert (found.divergences, found.sets_compared) == (1, 0)
    assert found.first is not None
    assert found.first.table == "memberships"
