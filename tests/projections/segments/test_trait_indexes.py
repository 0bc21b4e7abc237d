"""Indexes over traits hold whom the bare list of events names, whatever happens meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentState
from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.ids import RecordId
from domain.workspace_events import SourceRegistered, TraitIndexDropped, TraitIndexed
from eventlog.keys.port import DataKey, KeyAnswer
from projections.fold import SEALED, fold_batch
from projections.memory import MemoryTables
from projections.rows import SealedRows
from projections.segments import trait_indexes
from projections.segments.audience_parts import (
    AllOf,
    Audience,
    NoneOf,
    TraitIs,
    TraitKnown,
    TraitWithin,
)
from projections.segments.audiences import Sets, audience_members
from projections.segments.bitmaps import customer_numbered
from projections.segments.errors import InvalidAudience
from projections.segments.filling import fill_slice
from projections.segments.trait_values import Range
from projections.store import Store
from projections.tables import ReadTables
from tests.projections import oracle
from tests.projections.erasing import Erasing
from tests.projections.histories import PURPOSES, SOURCES, batches, record_id

RECORDS = 5
TRAITS = ("x", "y")
ASKED = ("analytics", "service")
VALUES: list[Any] = [0, 1, 2, 1.5, "a", "b", "ab", True, None, [1]]
TESTS: list[Audience] = [
    *(TraitIs(trait, (value,)) for trait in TRAITS for value in VALUES),
    *(TraitKnown(trait) for trait in TRAITS),
    *(TraitWithin(trait, Range(1, 2, includes_upper=False)) for trait in TRAITS),
    *(TraitWithin(trait, Range(upper="ab")) for trait in TRAITS),
    NoneOf((TraitIs("x", (1, "a")), TraitKnown("y"))),
    AllOf((TraitIs("x", (0, 1, 2)), NoneOf((TraitIs("y", ("a",)),)))),
]
SEEDS = st.integers(min_value=0, max_value=2**32)


class DerivedKeys:
    """A key for everybody, at hand."""

    def key_of(self, record_id: RecordId) -> KeyAnswer | None:
        return DataKey(sha256(record_id.encode()).digest())

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load nothing."""


class Indexed(Erasing):
    """A history in which traits are indexed, and people are erased."""

    def __init__(self) -> None:
        super().__init__()
        self.rules()
        self.numbers: Counter[str] = Counter()

    def index(self, trait: str, *purposes: str, open_reason: str | None = None) -> None:
        self.numbers[trait] += 1
        number = self.numbers[trait]
        self.tell(
            TraitIndexed(trait=trait, number=number, purposes=purposes, open_reason=open_reason)
        )

    def drop(self, trait: str) -> None:
        self.tell(TraitIndexDropped(trait=trait))

    def step(self, drawn: random.Random) -> None:
        """Let something happen that may change what a trait is, or who is asked about it."""
        left = [n for n in range(RECORDS) if record_id(n) not in self.erased]
        if left:  # otherwise they were one customer, and are erased
            self._happen(drawn, left)

    def _happen(self, drawn: random.Random, left: list[int]) -> None:
        who, trait = drawn.choice(left), drawn.choice(TRAITS)
        self.now += drawn.randrange(20)
        match drawn.randrange(16):
            case 0 | 1:
                self.merge(who, drawn.choice(left))
            case 2 | 3:
                self.undo(who, drawn.randrange(4))
            case 4:
                served = drawn.sample(["analytics", "marketing", "service"], drawn.randrange(1, 4))
                self.source(drawn.choice(sorted(SOURCES)), *served, priority=drawn.randrange(300))
            case 5:
                purposes = drawn.sample(ASKED, drawn.randrange(1, 3))
                self.index(trait, *purposes, open_reason=drawn.choice([None, "plans"]))
            case 6 if self.numbers[trait]:
                self.drop(trait)
            case 7:
                until = self.time(self.now + drawn.randrange(1, 60))
                self.traits(who, {trait: drawn.choice(VALUES)}, until=until)
            case 8:
                state = drawn.choice([ConsentState.REFUSED, ConsentState.GIVEN])
                self.say(who, drawn.choice(ASKED), state)
            case 9:
                self.did(who, "A")
            case 10 if len(left) > 2 and not drawn.randrange(3):
                self.erase(who)
            case _:
                source, at = drawn.choice(sorted(SOURCES)), self.now - drawn.randrange(200)
                value = drawn.choice(VALUES)
                self.set(who, source=source, at=max(0, at), **{trait: value})


def same(one: Any, other: Any) -> bool:
    return one is other if isinstance(one, bool) or isinstance(other, bool) else one == other


def holds(test: Audience, traits: dict[str, Any]) -> bool:
    match test:
        case TraitKnown(trait=trait):
            return trait in traits
        case TraitIs(trait=trait, values=values):
            return trait in traits and any(same(traits[trait], value) for value in values)
        case TraitWithin(trait=trait, within=within):
            value, kind = traits.get(trait), str if isinstance(within.upper, str) else int | float
            is_kind = isinstance(value, kind) and not isinstance(value, bool)
            return is_kind and within.holds(value)  # type: ignore[arg-type]  # asked before
        case AllOf(parts=parts):
            return all(holds(part, traits) for part in parts)
        case NoneOf(parts=parts):
            return not any(holds(part, traits) for part in parts)
        case _:
            raise AssertionError(test)


def by_events(events: list[Recorded[Event]], test: Audience, purpose: str) -> set[RecordId]:
    """Look at every customer, by the words of the sources that declare the purpose."""
    said = {e.body.source: e.body for e in events if isinstance(e.body, SourceRegistered)}
    ranks = {name: body.priority for name, body in said.items() if purpose in body.purposes}
    erased = {e.stream.key for e in events if isinstance(e.body, ErasureRequested)}
    return {
        min(members)
        for members in oracle.customers(events)
        if not members & erased
        if oracle.is_open(events, members, purpose, PURPOSES[purpose])
        and holds(test, oracle.traits(events, members, ranks))
    }


def by_index(tables: ReadTables, test: Audience, purpose: str) -> set[RecordId] | str:
    """Ask the indexes; the reason where they cannot be asked."""
    try:
        numbers = audience_members(tables, Sets(), test, purpose=purpose)
    except InvalidAudience as refused:
        return refused.reason
    found = {customer_numbered(tables, number) for number in numbers}
    return {root for root in found if root is not None}


def fill(tables: MemoryTables) -> None:
    while fill_slice(tables, customers_max=2):
        pass


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_an_index_holds_whom_the_events_name_after_every_append(seed: int) -> None:
    drawn, history = random.Random(seed), Indexed()
    rules = len(history.entries)
    for trait in TRAITS:
        history.index(trait, *ASKED, open_reason=drawn.choice([None, "plans"]))
    for _ in range(drawn.randrange(10, 50)):
        history.step(drawn)
    tables, compared = MemoryTables(), 0
    for append in batches(history.entries, 1):
        fold_batch(tables, append)
        if drawn.random() < 0.7:
            fill_slice(tables, customers_max=drawn.choice([1, 2, 100]))
        events = history.events[: append[-1].revision]
        for test in drawn.sample(TESTS, 4 if len(events) > rules else 0):
            purpose = drawn.choice(ASKED)
            found = by_index(tables, test, purpose)
            if not isinstance(found, str):
                assert found == by_events(events, test, purpose)
                compared += 1
    fill(tables)
    made_anew = MemoryTables()  # from the log as it reads without the keys of who was erased
    fold_batch(made_anew, history.after_destruction())
    fill(made_anew)
    for purpose in ASKED:
        for test in TESTS:
            found = by_index(tables, test, purpose)
            assert by_index(made_anew, test, purpose) == found
            if isinstance(found, str):
                assert found in {"TRAIT_NOT_INDEXED", "TRAIT_NOT_OPEN"}
            else:
                assert found == by_events(history.events, test, purpose)
    assert compared


def test_an_index_is_made_in_slices_beside_what_goes_on() -> None:
    history = Indexed()
    for number in range(6):
        history.set(number, plan="pro" if number % 2 else "free")
    history.index("plan", "analytics")
    tables, pro = MemoryTables(), TraitIs("plan", ("pro",))
    fold_batch(tables, history.entries)
    assert by_index(tables, pro, "analytics") == "INDEX_NOT_READY"
    assert by_index(tables, pro, "service") == "TRAIT_NOT_INDEXED"
    assert fill_slice(tables, customers_max=4)
    known = len(history.entries)
    history.set(1, plan="free")
    history.set(7, plan="pro")
    fold_batch(tables, history.entries[known:])
    assert by_index(tables, pro, "analytics") == "INDEX_NOT_READY"
    fill(tables)
    assert by_index(tables, pro, "analytics") == {record_id(3), record_id(5), record_id(7)}


def test_an_index_of_hmacs_answers_no_range_and_shows_no_value(tmp_path: Path) -> None:
    history, value = Indexed(), "a very personal value"
    history.index("plan", "analytics")
    history.index("size", "analytics", open_reason="shoe sizes are about nobody")
    history.set(1, plan=value, size=44)
    store = Store.open_writer(tmp_path, SealedRows(SEALED, DerivedKeys(), index_key=b"secret"))
    fold_batch(store, history.entries)
    with store.snapshot() as tables:
        within = TraitWithin("plan", Range("a", "b"))
        assert by_index(tables, within, "analytics") == "TRAIT_NOT_OPEN"
        assert by_index(tables, TraitIs("plan", (value,)), "analytics") == {record_id(1)}
        size = TraitWithin("size", Range(40))
        assert by_index(tables, size, "analytics") == {record_id(1)}
    store.close()
    assert value.encode() not in (tmp_path / "data.mdb").read_bytes()


def test_what_was_dropped_is_cleared_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trait_indexes, "CLEARED_KEYS_MAX", 3)
    history = Indexed()
    history.index("plan", *ASKED)
    for number in range(6):
        history.set(number, plan=number)
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    known = len(history.entries)
    history.drop("plan")
    fold_batch(tables, history.entries[known:])
    assert by_index(tables, TraitKnown("plan"), "analytics") == "TRAIT_NOT_INDEXED"
    fill(tables)
    left = [*tables.scan_stored(trait_indexes.SETS, b""), *_values(tables)]
    assert left == []


def test_a_source_that_never_spoke_lets_an_index_stand() -> None:
    history = Indexed()
    history.index("plan", "analytics")
    history.set(1, plan="pro")
    history.source("loyalty", "analytics", priority=900)
    tables, pro = MemoryTables(), TraitIs("plan", ("pro",))
    fold_batch(tables, history.entries)
    assert by_index(tables, pro, "analytics") == {record_id(1)}
    known = len(history.entries)
    history.set(1, source="loyalty", plan="free")
    fold_batch(tables, history.entries[known:])
    assert by_index(tables, pro, "analytics") == set()


def test_whoever_is_parked_is_in_no_index() -> None:
    history = Indexed()
    history.index("plan", "analytics")
    history.set(1, plan="pro")
    history.did(1, "A")
    history.spoil(len(history.entries))
    tables = MemoryTables()
    fold_batch(tables, history.entries[:-1])
    assert by_index(tables, TraitKnown("plan"), "analytics") == {record_id(1)}
    fold_batch(tables, history.entries[-1:])
    assert by_index(tables, TraitKnown("plan"), "analytics") == set()


def test_a_fold_without_the_key_keeps_no_index_and_comes_to_the_same_digest() -> None:
    history = Indexed()
    history.index("plan", "analytics")
    history.set(1, plan="pro")
    without = MemoryTables(SealedRows(SEALED, DerivedKeys()))
    keyed = MemoryTables(SealedRows(SEALED, DerivedKeys(), index_key=b"secret"))
    for tables in (without, keyed):
        fold_batch(tables, history.entries)
    assert by_index(without, TraitKnown("plan"), "analytics") == "INDEX_NOT_READY"
    assert without.checkpoint == keyed.checkpoint


def _values(tables: MemoryTables) -> list[tuple[bytes, bytes]]:
    return list(tables.scan_stored(trait_indexes.VALUES, b""))
