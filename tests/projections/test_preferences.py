"""What is kept beside the golden record: preferences, households, fast context, history of acts."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from pydantic import JsonValue

from domain.consent import ConsentState
from domain.consent_events import ConsentGiven
from domain.ids import record_stream
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, Preference, PreferencesSet
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import Signal
from projections import contexts, preferences
from projections.clock import read_clock
from projections.consent_history import consent_history
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.views import CustomerView, customer_view
from tests.projections.histories import START, History, identifier, record_id

HOUSEHOLD = str(UUID(int=7))


@pytest.fixture
def history() -> History:
    history = History()
    history.rules()
    for number in (1, 2, 3):
        history.link(number, identifier(f"{number}@example.com"))
    return history


def folded(history: History) -> MemoryTables:
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    return tables


def seen(history: History, number: int, *, now: datetime | None = None) -> CustomerView:
    found = customer_view(folded(history), record_id(number), "service", now=now)
    assert found is not None
    return found


def prefer(history: History, number: int, frequency: str, *, happened: int) -> None:
    stated = Preference(channel="email", topic="news", frequency=frequency)
    body = PreferencesSet(preferences=(stated,))
    history.append((record_stream(record_id(number)), body), happened=happened)


def test_of_two_records_the_newest_preference_stands_whichever_came_last(
    history: History,
) -> None:
    prefer(history, 1, "never", happened=5)
    prefer(history, 2, "weekly", happened=3)
    prefer(history, 1, "daily", happened=1)
    history.merge(1, 2)
    (stated,) = seen(history, 2).preferences
    assert (stated.channel, stated.topic, stated.frequency) == ("email", "news", "never")


def test_a_household_lists_customers_and_merges_nobody(history: History) -> None:
    for number in (1, 2, 3):
        linked = HouseholdLinked(household_id=HOUSEHOLD, source="shop")
        history.append((record_stream(record_id(number)), linked))
    history.merge(2, 3)
    (household,) = seen(history, 1).households
    assert household.customers == (record_id(1), record_id(2))
    history.append((record_stream(record_id(1)), HouseholdUnlinked(household_id=HOUSEHOLD)))
    assert seen(history, 1).households == ()
    (household,) = seen(history, 3).households
    assert household.customers == (record_id(2),)
    assert [*preferences.household_members(folded(history), HOUSEHOLD)] == [
        record_id(2),
        record_id(3),
    ]


def live_together(history: History, **sources: str) -> None:
    """Link customers to the household: `_1="shop"` is the first one, by the shop."""
    for number, source in sources.items():
        linked = HouseholdLinked(household_id=HOUSEHOLD, source=source)
        history.append((record_stream(record_id(int(number[1:]))), linked))


def named(tables: MemoryTables, purpose: str, *, now: datetime | None = None) -> list[int]:
    """Number those whom a view of the first customer names in its household."""
    found = customer_view(tables, record_id(1), purpose, now=now)
    assert found is not None
    (household,) = found.households
    return [number for number in (1, 2, 3) if record_id(number) in household.customers]


def test_of_a_household_only_those_are_named_whose_link_the_purpose_may_see(
    history: History,
) -> None:
    live_together(history, _1="shop", _2="crm", _3="web")
    tables = folded(history)
    assert named(tables, "service") == [1, 2]
    assert named(tables, "analytics") == [1, 3]
    assert named(tables, "audit") == [1, 2, 3]
    history.merge(2, 3)
    assert named(folded(history), "analytics") == [1, 2]


def test_of_a_household_only_those_are_named_for_whom_the_purpose_is_open(
    history: History,
) -> None:
    live_together(history, _1="shop", _2="shop", _3="shop")
    until = START + timedelta(days=1)
    for number, ends in ((1, None), (2, until)):
        history.consent(number, "marketing", ConsentState.GIVEN, until=ends)
    tables = folded(history)
    assert named(tables, "marketing") == [1, 2]
    found = customer_view(tables, record_id(1), "marketing")
    assert found is not None
    assert found.sure_until == until
    assert named(tables, "marketing", now=until) == [1]
    history.consent(2, "marketing", ConsentState.WITHDRAWN)
    tables = folded(history)
    assert named(tables, "marketing") == [1]
    assert named(tables, "audit") == [1, 2, 3]


def test_of_a_household_nobody_is_named_of_whom_it_is_not_sure_what_is_open(
    history: History,
) -> None:
    live_together(history, _1="shop", _2="shop", _3="shop")
    (entry,) = history.consent(2, "service", ConsentState.WITHDRAWN)
    history.spoil(entry.revision)
    tables = folded(history)
    assert named(tables, "service") == [1, 3]
    assert named(tables, "audit") == [1, 2, 3]


def test_context_is_seen_until_its_time_is_over_by_the_logs_clock(history: History) -> None:
    until = read_clock(folded(history)) + timedelta(seconds=3)
    body = TraitsSet(source="shop", traits={"city": "Kyoto"}, expires_at=until)
    history.append((record_stream(record_id(1)), body))
    assert [claim.value for claim in seen(history, 1).context] == ["Kyoto"]
    assert seen(history, 1).traits == ()
    assert seen(history, 1, now=until).context == ()
    for _ in range(3):
        history.traits(2, {"a": 1})
    assert seen(history, 1, now=START).context == ()
    body = TraitsSet(source="shop", traits={"town": "Nara"}, expires_at=until + timedelta(hours=1))
    history.append((record_stream(record_id(1)), body))
    row = folded(history).get(contexts.CONTEXTS, record_id(1).encode())
    assert row is not None
    assert [*row["context"]] == ["town"]


def test_the_newest_context_stands_whichever_came_last(history: History) -> None:
    def viewed(message_id: str, device: str, seconds: int) -> Signal:
        at = START + timedelta(seconds=seconds)
        return Signal(message_id=message_id, name="V", happened_at=at, context={"device": device})

    signals = (viewed("m1", "phone", 9), viewed("m2", "desk", 4))
    body = SignalsRecorded(source="shop", signals=signals, context_ttl_seconds=3_600)
    history.append((record_stream(record_id(1)), body))
    assert [claim.value for claim in seen(history, 1).context] == ["phone"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("record", [1, 2])
def test_the_newest_context_that_still_holds_is_seen_whichever_came_last(
    history: History, order: tuple[int, ...], record: int
) -> None:
    history.merge(1, 2)
    now = read_clock(folded(history))
    told = (("year", 1, 3_600), ("week", 2, 1_800), ("day", 3, 600))
    for place in order:
        city, happened, seconds = told[place]
        until = now + timedelta(seconds=seconds)
        body = TraitsSet(source="shop", traits={"city": city}, expires_at=until)
        on = record if place else 1
        history.append((record_stream(record_id(on)), body), happened=happened)

    def city_after(seconds: int) -> list[JsonValue]:
        at = now + timedelta(seconds=seconds)
        return [claim.value for claim in seen(history, 1, now=at).context]

    assert [city_after(s) for s in (300, 600, 1_800, 3_600)] == [["day"], ["week"], ["year"], []]


def test_what_was_agreed_to_for_a_while_closes_by_the_logs_clock(history: History) -> None:
    until = read_clock(folded(history)) + timedelta(seconds=2)
    body = ConsentGiven(act_id=HOUSEHOLD, purpose="marketing", valid_until=until)
    history.append((record_stream(record_id(1)), body))

    def is_open(now: datetime | None) -> bool:
        found = customer_view(folded(history), record_id(1), "marketing", now=now)
        assert found is not None
        return found.is_open

    assert is_open(None)
    assert not is_open(until)
    history.traits(2, {"a": 1})
    assert not is_open(START)


def test_an_act_on_several_records_is_one_in_the_history(history: History) -> None:
    history.merge(1, 2)
    entries = history.consent(2, "marketing", ConsentState.GIVEN, happened=1)
    (act,) = consent_history(folded(history), [record_id(1), record_id(2)])
    assert act.event_ids == {e.event.event_id for e in entries if e.event}
    assert act.revision == entries[0].revision
    assert act.effective_at == START + timedelta(seconds=1)
