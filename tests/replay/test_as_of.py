"""R15: a past state is the one that stood then, for whoever asks later, by revision or by time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import Invalid, NotFound
from domain.ids import IdentifierKey, RecordId, StreamKind, record_stream
from domain.preference_events import HouseholdLinked
from eventlog.port import Entry, LogReader
from projections import customers
from projections.clock import CLOCK_MARKS, MARK_EVERY_REVISIONS, read_clock, time_moved_to
from projections.errors import CustomerErased, CustomerParked
from projections.fold import TABLES, fold_batch, let_time_pass
from projections.memory import MemoryTables
from projections.segments.membership import MEMBERSHIPS, read_membership
from projections.segments.timers import TIMERS
from projections.views import CustomerView, Household, customer_view, record_holding
from replay.as_of import AsOf, Prefix, find_prefix
from replay.customer import fold_customers, fold_members
from replay.explain import since_in_log
from tests.projections.histories import (
    START,
    ListedLog,
    identifier,
    random_history,
    record_id,
    signal,
)
from tests.projections.segments import oracle
from tests.projections.segments.happenings import Happenings
from tests.projections.segments.test_segments_against_oracle import RECORDS, SEEDS, world_of

LATER = START + timedelta(days=3_000)
PURPOSES = ("audit", "analytics", "marketing", "service")
State = tuple[object, ...]


def listed(entries: Sequence[Entry]) -> LogReader:
    return cast("LogReader", ListedLog(entries))


def seen(tables: MemoryTables, number: int) -> State:
    """Everything that may be asked of a customer, without the revision of the whole."""
    record = record_id(number)
    views: list[object] = []
    for purpose in PURPOSES:
        try:
            views.append(bare(customer_view(tables, record, purpose)))
        except (CustomerParked, NotFound) as error:
            views.append(error.reason)
    root = customers.root(tables, record)
    row = read_membership(tables, root) if root else None
    return (*views, sorted(n for n in row["in"] if n[0] != "~") if row else [])


def bare(view: CustomerView | None) -> CustomerView | None:
    return None if view is None else replace(view, revision=0)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(0, 2**32))
async def test_as_of_a_revision_is_what_was_seen_live_at_that_revision(seed: int, at: int) -> None:
    entries = world_of(seed).history.entries
    live, revision = MemoryTables(), 1 + at % len(entries)
    whole = max(entry.revision for entry in entries[:revision] if entry.ends_append)
    fold_batch(live, entries[:whole])
    prefix = await find_prefix(listed(entries), AsOf(revision=revision), now=LATER)
    assert prefix == Prefix(whole, read_clock(live))
    for number in range(RECORDS):
        past = await fold_members(listed(entries), prefix, record_ids=[record_id(number)])
        assert seen(past.tables, number) == seen(live, number)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(0, 2**32), st.integers(0, 100))
async def test_what_is_known_is_the_same_whether_anybody_is_judged_or_not(
    seed: int, at: int, spoilt: int
) -> None:
    history = world_of(seed).history
    records = [e.revision for e in history.entries if e.stream.kind is StreamKind.RECORD]
    if spoilt < len(records):
        history.spoil(records[spoilt])
    log, everybody = listed(history.entries), [record_id(number) for number in range(RECORDS)]
    prefix = await find_prefix(log, AsOf(revision=1 + at % len(history.entries)), now=LATER)
    known = await fold_customers(log, prefix, record_ids=everybody)
    judged = await fold_members(log, prefix, record_ids=everybody)
    for table in TABLES:
        if table not in (MEMBERSHIPS, TIMERS, CLOCK_MARKS):
            assert list(known.tables.scan(table, b"")) == list(judged.tables.scan(table, b""))
    assert not known.tables.count(MEMBERSHIPS)
    assert known.erased == judged.erased


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(0, 2**32))
async def test_a_past_membership_is_since_when_the_read_side_had_it(seed: int, at: int) -> None:
    entries = world_of(seed).history.entries
    live, revision = MemoryTables(), 1 + at % len(entries)
    prefix = await find_prefix(listed(entries), AsOf(revision=revision), now=LATER)
    fold_batch(live, entries[: prefix.revision])
    later = MemoryTables()
    fold_batch(later, entries)
    for number in range(RECORDS):
        record = record_id(number)
        past = await fold_members(listed(entries), prefix, record_ids=[record])
        root = customers.root(live, record)
        row = read_membership(live, root) if root else None
        known = read_membership(past.tables, root) if root else None
        if row is None or root is None or known is None:
            assert row == known
            continue
        since = {name: (known["in"][name][0], known["in"][name][1]) for name in past.segments(root)}
        for marks in (None, live, later):
            told = await since_in_log(listed(entries), past, since=since, now=LATER, marks=marks)
            assert {name: [*at] for name, at in told.items()} == {n: row["in"][n] for n in since}


@pytest.mark.parametrize("is_marked", [True, False])
async def test_what_time_alone_brought_about_is_since_the_event_that_moved_the_clock(
    *, is_marked: bool
) -> None:
    happenings = Happenings()
    happenings.rules()
    happenings.segment("quiet", 'count("A", "ever") > 0 && !seen("A", "5m")')
    happenings.did(1, "A")
    happenings.now = 1_000
    happenings.did(2, "B")
    moved = len(happenings.entries)
    happenings.did(2, "B")
    happenings.did(1, "C")
    entries = happenings.entries
    live = MemoryTables()
    fold_batch(live, entries)
    marks = live if is_marked else None
    row = read_membership(live, record_id(1))
    assert row is not None
    assert row["in"]["quiet"][0] == moved
    for revision in range(moved, len(entries) + 1):
        prefix = await find_prefix(listed(entries), AsOf(revision=revision), now=LATER)
        past = await fold_members(listed(entries), prefix, record_ids=[record_id(1)])
        known = read_membership(past.tables, record_id(1))
        assert known is not None
        since = (known["in"]["quiet"][0], known["in"]["quiet"][1])
        assert since[0] != moved
        told = await since_in_log(
            listed(entries), past, since={"quiet": since}, now=LATER, marks=marks
        )
        assert told == {"quiet": (moved, since[1])}


@pytest.mark.parametrize("is_marked", [True, False])
async def test_what_an_event_brought_about_is_since_the_clock_of_the_log(
    *, is_marked: bool
) -> None:
    happenings = Happenings()
    happenings.rules()
    happenings.segment("buyers", 'count("A", "ever") > 0')
    happenings.now = 1_000
    happenings.did(2, "B")
    happenings.now = 999  # by a host whose clock is behind
    happenings.did(1, "A")
    entries = happenings.entries
    live = MemoryTables()
    fold_batch(live, entries)
    row = read_membership(live, record_id(1))
    prefix = await find_prefix(listed(entries), AsOf(revision=len(entries)), now=LATER)
    past = await fold_members(listed(entries), prefix, record_ids=[record_id(1)])
    known = read_membership(past.tables, record_id(1))
    assert row is not None
    assert known is not None
    since = (known["in"]["buyers"][0], known["in"]["buyers"][1])
    assert since[1] < row["in"]["buyers"][1]
    marks = live if is_marked else None
    told = await since_in_log(
        listed(entries), past, since={"buyers": since}, now=LATER, marks=marks
    )
    assert [*told["buyers"]] == row["in"]["buyers"]


class CountedLog(ListedLog):
    """Knows up to which revisions it was read."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__(entries)
        self.reads: list[int | None] = []

    def read(
        self,
        *,
        after_revision: int = 0,
        through_revision: int | None = None,
        batch_events_max: int = 1_000,
    ) -> AsyncIterator[list[Entry]]:
        self.reads.append(through_revision)
        return super().read(
            after_revision=after_revision,
            through_revision=through_revision,
            batch_events_max=batch_events_max,
        )


async def test_the_log_is_read_once_for_what_began_together_and_not_where_it_is_told() -> None:
    happenings = Happenings()
    happenings.rules()
    for number in range(3):
        happenings.segment(f"did{number}", f'count("A", "ever") > 0 && {number} < 9')
        happenings.segment(f"quiet{number}", f'seen("A") && !seen("A", "5m") && {number} < 9')
    happenings.segment("both", 'seen("A") && seen("B")')
    happenings.did(1, "A")
    first = len(happenings.entries)
    happenings.did(1, "B")
    happenings.advance(1_000)
    prefix = await find_prefix(listed(happenings.entries), AsOf(), now=LATER)
    past = await fold_members(listed(happenings.entries), prefix, record_ids=[record_id(1)])
    known = read_membership(past.tables, record_id(1))
    assert known is not None
    places = {name: known["in"][name] for name in past.segments(record_id(1))}
    since = {name: (revision, at) for name, (revision, at) in places.items()}
    assert len(since) == 7
    log = CountedLog(happenings.entries)
    told = await since_in_log(cast("LogReader", log), past, since=since, now=LATER)
    assert sorted(through or 0 for through in log.reads) == [0, first, first + 1]
    for name, at in since.items():
        alone = await since_in_log(listed(log.entries), past, since={name: at}, now=LATER)
        assert alone == {name: told[name]}
    live = MemoryTables()
    fold_batch(live, happenings.entries)
    log = CountedLog(happenings.entries)
    marked = await since_in_log(cast("LogReader", log), past, since=since, now=LATER, marks=live)
    assert (marked, log.reads) == (told, [])


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(0, 4_000))
async def test_as_of_a_time_lets_time_pass_to_it(seed: int, second: int) -> None:
    world, time = world_of(seed), START + timedelta(seconds=second)
    entries = world.history.entries
    known = [entry for entry in entries if clocks(entries)[entry.revision - 1] <= time]
    prefix = await find_prefix(listed(entries), AsOf(known=time), now=LATER)
    assert prefix == Prefix(len(known), time)
    events = [entry.event for entry in known if entry.event]
    if not events:
        return
    wanted = oracle.memberships(events, world.trees, at=time)
    records = [record_id(number) for number in range(RECORDS)]
    past = await fold_members(listed(entries), prefix, record_ids=records)
    for record in records:
        root = customers.root(past.tables, record)
        expected = sorted(name for name, roots in wanted.items() if root in roots)
        assert list(past.segments(record)) == expected


@pytest.mark.parametrize("seed", range(3))
async def test_marks_of_the_clock_only_make_it_faster(seed: int) -> None:
    history = random_history(seed, events=MARK_EVERY_REVISIONS * 3 + 40, records=5)
    entries = [late(entry) for entry in history.entries]
    marks = MemoryTables()
    fold_batch(marks, entries)
    reached = clocks(entries)
    for revision in (1, 255, 256, 257, 511, 512, 700, len(entries)):
        wanted = AsOf(revision=revision)
        found = await find_prefix(listed(entries), wanted, now=LATER, marks=marks)
        assert found == await find_prefix(listed(entries), wanted, now=LATER)
        assert found.clock == reached[found.revision - 1]
        assert 0 <= revision - found.revision < 5
        for moved in (-1, 0, 1):
            time = reached[revision - 1] + timedelta(microseconds=moved)
            found = await find_prefix(listed(entries), AsOf(known=time), now=LATER, marks=marks)
            assert found == Prefix(bisect_right(reached, time), time)


async def test_what_happened_by_a_time_is_known_from_later_events() -> None:
    history = Happenings()
    history.rules()
    history.segment("buyers", 'count("Order", "1h") >= 1')
    history.now = 10_000
    history.did(1, "Order", at=5_000)
    history.set(1, at=5_000, tier="silver")
    history.set(1, at=9_000, tier="gold")
    early, late_ = START + timedelta(seconds=6_000), START + timedelta(seconds=9_500)
    for time, tier, segments in ((early, "silver", ("buyers",)), (late_, "gold", ())):
        prefix = await find_prefix(listed(history.entries), AsOf(happened=time), now=LATER)
        past = await fold_members(listed(history.entries), prefix, record_ids=[record_id(1)])
        view = past.view(record_id(1), "audit")
        assert view is not None
        assert [trait.winner.value for trait in view.traits] == [tier]
        assert past.segments(record_id(1)) == segments


async def test_of_choices_that_came_together_those_count_that_had_been_made() -> None:
    history = Happenings()
    history.rules()
    history.now = 9_000
    history.did(1, "Order", at=1_000)
    history.choose(1, happened=5_000, analytics=False, marketing=True)
    analytics, marketing = 5_000, 5_001
    told = [(analytics - 1, True, False), (analytics, False, False), (marketing, False, True)]
    for second, *wanted in told:
        as_of = AsOf(happened=START + timedelta(seconds=second))
        prefix = await find_prefix(listed(history.entries), as_of, now=LATER)
        past = await fold_members(listed(history.entries), prefix, record_ids=[record_id(1)])
        view = past.view(record_id(1), "audit")
        assert view is not None
        standing = {one.purpose.name: one.standing.is_open for one in view.consents}
        assert [standing["analytics"], standing["marketing"]] == wanted


async def test_whoever_held_an_identifier_then_is_found_by_it() -> None:
    history = Happenings()
    history.rules()
    shared = identifier("shared")
    history.link(1, shared)
    before = len(history.entries)
    history.merge(1, 2)
    history.link(3, shared)
    for revision, holder in ((before - 2, None), (before, 1), (len(history.entries), 3)):
        past = await fold_members(
            listed(history.entries),
            Prefix(revision, START + timedelta(days=1)),
            identifiers=[shared.key],
        )
        expected = None if holder is None else record_id(holder)
        assert past.holder(IdentifierKey(shared.key)) == expected
        live = MemoryTables()
        fold_batch(live, history.entries[:revision])
        assert record_holding(live, shared.key) == expected


async def test_a_past_view_tells_of_a_household_and_of_nobody_else_in_it() -> None:
    history = Happenings()
    history.rules()
    household = str(UUID(int=7))
    for number in (1, 2):
        linked = HouseholdLinked(household_id=household, source="shop")
        history.append((record_stream(record_id(number)), linked))
    prefix = await find_prefix(listed(history.entries), AsOf(), now=LATER)
    for asked in ([1], [1, 2]):
        records = [record_id(number) for number in asked]
        past = await fold_members(listed(history.entries), prefix, record_ids=records)
        view = past.view(record_id(1), "audit")
        assert view is not None
        assert view.households == (Household(household, (record_id(1),)),)


async def test_of_the_erased_nothing_is_told_as_of_any_time() -> None:
    history = Happenings()
    history.rules()
    history.signals(1, signal("a"))
    history.signals(2, signal("b"))
    history.merge(1, 2)
    erased = [
        replace(entry, event=entry.event._replace(is_erased=True))
        if entry.event and entry.stream.key == record_id(2)
        else entry
        for entry in history.entries
    ]
    first = Prefix(len(erased), START + timedelta(days=1))
    for record in (record_id(1), record_id(2)):
        past = await fold_members(listed(erased), first, record_ids=[record])
        with pytest.raises(CustomerErased):
            past.view(record, "audit")
        with pytest.raises(CustomerErased):
            past.segments(record)


@pytest.mark.parametrize(
    "as_of",
    [
        AsOf(revision=10_000),
        AsOf(known=LATER + timedelta(seconds=1)),
        AsOf(happened=LATER + timedelta(seconds=1)),
        AsOf(revision=1, known=START),
    ],
)
async def test_what_is_not_past_is_refused(as_of: AsOf) -> None:
    with pytest.raises(Invalid):
        await find_prefix(listed(world_of(1).history.entries), as_of, now=LATER)


def test_a_clock_that_has_passed_a_time_does_not_go_back() -> None:
    tables = MemoryTables()
    let_time_pass(tables, LATER)
    let_time_pass(tables, START)
    assert read_clock(tables) == LATER


async def test_folding_nobody_gives_nobody() -> None:
    nobody = RecordId(record_id(1))
    past = await fold_members(listed([]), Prefix(0, START), record_ids=[nobody])
    assert past.view(nobody, "audit") is None


def clocks(entries: Sequence[Entry]) -> list[datetime]:
    """What the clock showed after each event."""
    return list(accumulate((time_moved_to(e.event) for e in entries if e.event), max))


def late(entry: Entry) -> Entry:
    """Record a decision at one time, and every fifth event by a host whose clock is behind."""
    event = entry.event
    assert event is not None
    behind = 7 if event.parts == 1 and entry.revision % 5 == 0 else 0
    recorded_at = event.recorded_at - timedelta(seconds=behind + event.part - 1)
    return replace(entry, event=event._replace(recorded_at=recorded_at))
