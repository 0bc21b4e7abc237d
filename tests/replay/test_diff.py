"""What changed between two past states is the difference of the two, and each step is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentState
from domain.errors import Invalid
from domain.ids import record_stream
from domain.preference_events import HouseholdLinked, HouseholdUnlinked
from eventlog.port import LogReader
from koseki.v1.query_service_pb2 import Customer
from projections.fold import fold_batch
from projections.memory import MemoryTables
from replay.as_of import AsOf, Prefix, find_prefix
from replay.customer import PastMembers, fold_members
from replay.diff import Fields, diff_customer, fields_of
from services.answers import customer_message
from tests.projections.histories import ListedLog, identifier, record_id
from tests.projections.segments.happenings import Happenings
from tests.projections.segments.test_segments_against_oracle import RECORDS, SEEDS, world_of
from tests.replay.test_as_of import LATER, listed

REPLAY = Path(__file__).parents[2] / "replay"


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(0, 2**32), st.integers(0, 2**32))
async def test_changes_are_what_differs_between_the_whole_logs(seed: int, a: int, b: int) -> None:
    entries = world_of(seed).history.entries
    ends = [entry.revision for entry in entries if entry.ends_append]
    first, last = sorted((ends[a % len(ends)], ends[b % len(ends)]))
    record = record_id(a % RECORDS)
    earlier, later = [
        await find_prefix(listed(entries), AsOf(revision=revision), now=LATER)
        for revision in (first, last)
    ]
    wanted = []
    for prefix in (earlier, later):
        tables = MemoryTables()
        fold_batch(tables, entries[: prefix.revision])
        wanted.append(fields_of(PastMembers(tables, prefix, (), frozenset()), record))
    before, after = wanted
    found = await diff_customer(listed(entries), record, earlier=earlier, later=later)
    differing = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert {change.name for change in found if change.before != change.after} == differing
    for change in found:
        assert (change.before, change.after) == (before.get(change.name), after.get(change.name))
        assert change.steps[-1].value == change.after
        assert all(first <= step.revision <= last for step in change.steps)


async def test_a_window_that_closed_is_told_as_time_and_an_order_as_its_event() -> None:
    history = Happenings()
    history.rules()
    history.segment("buyers", 'count("Order", "1h") >= 1')
    history.set(1, tier="silver")
    start = len(history.entries)
    history.did(1, "Order")
    ordered = len(history.entries)
    history.advance(10_000)
    log = cast("LogReader", ListedLog(history.entries))
    earlier = await find_prefix(log, AsOf(revision=start), now=LATER)
    later = await find_prefix(log, AsOf(), now=LATER)
    changes = await diff_customer(log, record_id(1), earlier=earlier, later=later)
    (buyers,) = [change for change in changes if change.name == "segments.buyers"]
    assert (buyers.before, buyers.after) == (None, None)
    entered, left = buyers.steps
    assert (entered.revision, entered.value, len(entered.events)) == (ordered, True, 1)
    assert (left.value, left.events) == (None, ())


async def end_of(history: Happenings, revision: int | None = None) -> Prefix:
    """Find what a history has come to, its clock where it is then."""
    as_of = AsOf(revision=revision or len(history.entries))
    return await find_prefix(listed(history.entries), as_of, now=LATER)


def told_of_all(history: Happenings) -> None:
    """Let everything happen to one customer that a view shows."""
    first = record_stream(record_id(1))
    history.set(1, tier="silver")
    history.now = 60
    history.set(1, tier="silver")
    history.set(1, source="web", tier="gold")
    history.set(1, source="crm", tier="silver")
    for wish in ("never", "never", "daily"):
        history.now += 1
        history.prefer(1, "email", "news", frequency=wish)
    linked = HouseholdLinked(household_id=str(UUID(int=7)), source="shop")
    history.append((first, linked))
    for source, city, until in (("shop", "Oslo", 900), ("shop", "Oslo", 999), ("web", "Oslo", 999)):
        history.traits(1, {"city": city}, source=source, until=history.time(until))
    for source in ("shop", "crm"):
        history.link(1, identifier("ada@example.com"), source=source)
    history.did(1, "Order", amount=3)
    for until in (500, 600):
        history.say(1, "marketing", ConsentState.GIVEN, until=until)
        history.now += 1
    history.merge(1, 2)
    history.unlink(1, identifier("ada@example.com").key)
    history.append((first, HouseholdUnlinked(household_id=linked.household_id)))
    history.undo(1, 0)
    history.advance(2_000)


async def test_whatever_a_read_would_show_otherwise_is_named() -> None:
    history = Happenings()
    history.rules()
    begun = len(history.entries)
    told_of_all(history)
    shown: tuple[Customer, Fields] | None = None
    for entry in history.entries[begun:]:
        prefix = await end_of(history, entry.revision)
        past = await fold_members(listed(history.entries), prefix, record_ids=[record_id(1)])
        view = past.view(record_id(1), "audit")
        assert view is not None
        now = (customer_message(replace(view, revision=0)), fields_of(past, record_id(1)))
        if shown is not None:
            assert (now[0] == shown[0]) == (now[1] == shown[1]), entry
        shown = now


async def test_preferences_households_context_and_other_words_are_named() -> None:
    history = Happenings()
    history.rules()
    history.set(1, tier="silver")
    earlier = await end_of(history)
    history.now = 60
    history.prefer(1, "email", "news", frequency="never")
    linked = HouseholdLinked(household_id=str(UUID(int=7)), source="shop")
    history.append((record_stream(record_id(1)), linked))
    history.traits(1, {"city": "Oslo"}, until=history.time(900))
    history.set(1, source="web", at=1, tier="gold")
    later = await end_of(history)
    found = await diff_customer(listed(history.entries), record_id(1), earlier=earlier, later=later)
    changes = {change.name: (change.before, change.after) for change in found}
    lost = {"value": "gold", "source": "web", "happened_at": history.time(1).isoformat()}
    assert changes == {
        "context.city": (None, "Oslo"),
        "expires_at.context.city": (None, history.time(900).isoformat()),
        "happened_at.context.city": (None, history.time(60).isoformat()),
        "source.context.city": (None, "shop"),
        f"households.{UUID(int=7)}": (None, True),
        "losers.traits.tier": (None, [lost]),
        "preferences.email/news": (None, "never"),
        "happened_at.preferences.email/news": (None, history.time(60).isoformat()),
    }


async def test_one_is_not_true_and_context_runs_out_by_time() -> None:
    history = Happenings()
    history.rules()
    history.set(1, member=True)
    history.traits(1, {"city": "Oslo"}, until=history.time(900))
    earlier = await end_of(history)
    history.set(1, member=1)
    history.advance(1_000)
    later = await end_of(history)
    found = await diff_customer(listed(history.entries), record_id(1), earlier=earlier, later=later)
    changes = {change.name: change for change in found}
    assert changes["traits.member"].after == 1
    city = changes["context.city"]
    assert (city.before, city.after, city.steps[0].events) == ("Oslo", None, ())


async def test_states_in_the_wrong_order_are_refused() -> None:
    history = Happenings()
    history.rules()
    log = listed(history.entries)
    earlier, later = [await find_prefix(log, AsOf(revision=r), now=LATER) for r in (3, 2)]
    with pytest.raises(Invalid):
        await diff_customer(log, record_id(1), earlier=earlier, later=later)


def test_replays_are_handed_no_way_to_write() -> None:
    assert not {"append", "guard_by", "publish"} & set(dir(LogReader))
    for path in REPLAY.glob("*.py"):
        source = path.read_text()
        assert "EventLog" not in source.replace("JetStreamEventLog", ""), path.name
        assert ".append(attempt" not in source, path.name
