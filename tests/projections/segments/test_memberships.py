"""What readers rely on: who enters and leaves, when, because of what; and who must not be seen."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import pytest

from domain.consent import ConsentState, LawfulBasis
from domain.ids import RecordId
from domain.workspace_events import PurposeDefined
from projections.fold import fold_batch
from projections.instants import microseconds
from projections.memory import MemoryTables
from projections.segments.audience_parts import InSegment
from projections.segments.audiences import Sets, audience_members, count_audience
from projections.segments.bitmaps import customer_numbered, read_bitmap
from projections.segments.explaining import (
    check_definition,
    explain_membership,
    preview_counts,
    ready_for_activation,
)
from projections.segments.filling import fill_slice
from projections.segments.following import is_open_for, segments_of
from projections.segments.journal import changes
from projections.segments.membership import MEMBERSHIPS
from projections.segments.timers import TIMERS, first_due
from tests.projections.histories import batches, record_id, signal
from tests.projections.segments.happenings import Happenings

DAY = 86_400
MANY = 200
LOOP_SECONDS_MAX = 5.0


def begun() -> Happenings:
    history = Happenings()
    history.rules()
    return history


def folded(history: Happenings) -> MemoryTables:
    tables = MemoryTables()
    for append in batches(history.entries, 1):
        fold_batch(tables, append)
    return tables


def members(tables: MemoryTables, segment: str) -> set[RecordId]:
    rows = tables.scan(MEMBERSHIPS, b"")
    return {RecordId(key.decode()) for key, row in rows if segment in row["in"]}


def test_a_window_closes_at_its_instant_and_not_a_microsecond_earlier() -> None:
    history = begun()
    history.segment("fresh", 'seen("Visited", "30d")')
    history.did(1, "Visited")
    history.now = 30 * DAY - 1
    history.did(2, "Else")
    tables = folded(history)
    assert members(tables, "fresh") == {record_id(1)}
    assert first_due(tables) == microseconds(history.time(30 * DAY))
    history.advance(30 * DAY)
    tables = folded(history)
    assert members(tables, "fresh") == set()
    (closed,) = changes(tables, after_revision=len(history.entries) - 1)
    assert (closed.change, closed.cause) == ("exited", "time")
    assert closed.at == microseconds(history.time(30 * DAY))


def test_of_several_windows_the_first_to_close_decides() -> None:
    history = begun()
    history.segment("both", 'seen("Visited", "1d") && seen("Bought", "30d")')
    history.did(1, "Visited")
    history.did(1, "Bought")
    history.advance(2 * DAY)
    last = list(changes(folded(history)))[-1]
    assert (last.change, last.at) == ("exited", microseconds(history.time(DAY)))


def test_a_timer_fires_before_the_event_that_moves_the_clock_is_applied() -> None:
    history = begun()
    history.segment("fresh", 'seen("Visited", "1d")')
    history.did(1, "Visited")
    history.now = 5 * DAY
    history.did(1, "Visited")
    told = [(c.change, c.cause, c.at) for c in changes(folded(history))][1:]
    assert told == [
        ("exited", "time", microseconds(history.time(DAY))),
        ("entered", "event", microseconds(history.time(5 * DAY))),
    ]


def test_a_late_signal_stands_where_it_happened() -> None:
    history = begun()
    history.segment("fresh", 'seen("Visited", "1d")')
    history.segment("patient", 'sequence("Asked", "Bought", "2d", "Left")')
    history.now = 10 * DAY
    history.did(1, "Visited", at=8 * DAY)
    history.did(1, "Asked", at=5 * DAY)
    history.did(1, "Bought", at=6 * DAY)
    assert members(folded(history), "fresh") == set()
    assert members(folded(history), "patient") == {record_id(1)}
    history.did(1, "Left", at=int(5.5 * DAY))
    assert members(folded(history), "patient") == set()


def test_a_signal_that_stands_twice_in_one_event_counts_once_in_its_transaction_too() -> None:
    history = begun()
    history.segment("regulars", 'count("Order") >= 3')
    history.did(1, "Order")
    twice = signal("same", "Order")
    history.signals(1, twice, twice)
    at_once = MemoryTables()
    fold_batch(at_once, history.entries)
    assert members(at_once, "regulars") == members(folded(history), "regulars") == set()


def test_a_segment_sees_only_sources_that_declare_its_purposes() -> None:
    history = begun()
    history.segment("shoppers", 'seen("Bought")', purposes=("marketing",))
    history.segment("unwanted", 'seen("Bought")', purposes=("marketing",), exception="suppression")
    history.did(1, "Bought", source="crm")  # declares service alone
    tables = folded(history)
    assert members(tables, "shoppers") == set()
    assert members(tables, "unwanted") == {record_id(1)}
    history.source("crm", "service", "marketing")
    assert members(folded(history), "shoppers") == {record_id(1)}


def test_a_definition_takes_effect_when_it_is_activated() -> None:
    history = begun()
    history.did(1, "Bought")
    history.did(2, "Visited")
    history.segment("chosen", 'seen("Bought")')
    history.define("chosen", 'seen("Visited")')
    tables = folded(history)
    assert members(tables, "chosen") == {record_id(1)}
    assert ready_for_activation(tables) == [("chosen", 2)]
    history.activate("chosen")
    tables = folded(history)
    assert members(tables, "chosen") == {record_id(2)}
    assert ready_for_activation(tables) == []
    told = [(c.change, c.customer, c.cause) for c in changes(tables)][1:]
    assert told == [
        ("exited", record_id(1), "definition"),
        ("entered", record_id(2), "definition"),
    ]
    history.archive("chosen")
    assert members(folded(history), "chosen") == set()


def test_consent_opens_and_closes_what_asks_for_it() -> None:
    history = begun()
    history.segment("reachable", 'consent("marketing")')
    history.set(1, country="JP")
    history.say(1, "marketing", ConsentState.GIVEN)
    assert members(folded(history), "reachable") == {record_id(1)}
    history.now = 1
    history.say(1, "marketing", ConsentState.WITHDRAWN)
    assert members(folded(history), "reachable") == set()


def test_an_agreement_that_runs_out_closes_by_itself() -> None:
    history = begun()
    history.segment("reachable", 'consent("marketing")')
    history.say(1, "marketing", ConsentState.GIVEN, until=100)
    history.say(2, "marketing", ConsentState.GIVEN)
    history.advance(99)
    tables = folded(history)
    assert members(tables, "reachable") == {record_id(1), record_id(2)}
    assert first_due(tables) == microseconds(history.time(100))
    history.advance(500)
    tables = folded(history)
    assert members(tables, "reachable") == {record_id(2)}
    last = list(changes(tables))[-1]
    assert (last.change, last.customer, last.cause) == ("exited", record_id(1), "time")
    assert last.at == microseconds(history.time(100))
    assert first_due(tables) is None


class Looked(MemoryTables):
    """Counts the timers that are looked at."""

    timers = 0

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        for row in super().scan_stored(table, prefix, start=start):
            self.timers += table == TIMERS
            yield row


def test_many_windows_that_close_one_after_the_other_are_looked_at_once_each() -> None:
    history = begun()
    history.segment("fresh", 'seen("Visited", "1d")')
    for number in range(MANY):
        history.now = number
        history.did(number, "Visited")
    tables = Looked()
    fold_batch(tables, history.entries)
    history.advance(2 * DAY)
    tables.timers = 0
    fold_batch(tables, history.entries[-1:])
    assert members(tables, "fresh") == set()
    assert tables.timers <= 10 * MANY


def test_nobody_stays_in_the_set_of_a_segment_that_goes_who_left_it_in_the_same_batch() -> None:
    history = begun()
    history.segment("fresh", 'seen("Visited", "1d")')
    for number in (1, 2):
        history.now = number
        history.did(number, "Visited")
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    last = len(history.entries)
    history.advance(DAY + 1)
    history.now = DAY + 1
    history.archive("fresh")
    fold_batch(tables, history.entries[last:])
    assert members(tables, "fresh") == set()
    assert not read_bitmap(tables, "fresh")


def test_a_purpose_put_below_another_is_judged_anew() -> None:
    history = begun()
    history.segment("reachable", 'consent("marketing")')
    history.say(1, "service", ConsentState.WITHDRAWN)
    history.now = 1
    history.say(1, "marketing", ConsentState.GIVEN)
    history.now = 2
    history.say(1, "service", ConsentState.WITHDRAWN)
    assert members(folded(history), "reachable") == {record_id(1)}
    basis = LawfulBasis.CONSENT
    history.tell(PurposeDefined(purpose="marketing", basis=basis, parent="service"))
    assert members(folded(history), "reachable") == set()


def test_a_parked_customer_leaves_everything() -> None:
    history = begun()
    history.segment("buyers", 'seen("Bought", "1d")')
    history.did(1, "Bought")
    history.did(1, "Bought")
    history.spoil(len(history.entries))
    tables = folded(history)
    assert members(tables, "buyers") == members(tables, "~everyone") == set()
    assert first_due(tables) is None
    last = list(changes(tables))[-1]
    assert (last.change, last.customer) == ("exited", record_id(1))
    assert explain_membership(tables, "buyers", record_id(1)) is None


@pytest.mark.parametrize("number", [1, 2])
def test_a_merged_customer_of_whom_any_record_is_parked_leaves_everything(number: int) -> None:
    history = begun()
    history.segment("buyers", 'seen("Bought", "1d")')
    for one in (1, 2):
        history.did(one, "Bought")
    history.merge(1, 2)
    history.did(number, "Bought")
    history.spoil(len(history.entries))
    tables = folded(history)
    assert members(tables, "buyers") == members(tables, "~everyone") == set()
    assert first_due(tables) is None


@pytest.mark.parametrize("unread", [1, 2, 3])
def test_who_is_merged_by_what_cannot_be_read_leaves_everything(unread: int) -> None:
    history = begun()
    history.segment("buyers", 'seen("Bought", "1d")')
    for one in (1, 2, 3):
        history.did(one, "Bought")
    history.merge(2, 3)
    merged = history.merge(1, 3)
    history.spoil(merged[unread - 1].revision)
    history.now = 2 * DAY
    history.did(4, "Bought")
    tables = folded(history)
    assert members(tables, "~everyone") == {record_id(4)}
    assert members(tables, "buyers") == {record_id(4)}


def test_a_loop_over_loops_ends_where_it_would_take_for_ever() -> None:
    history = begun()
    history.segment("pairs", "traits.l.exists(x, traits.l.exists(y, x + y < 0.0))")
    history.segment("lists", "traits.l.map(x, traits.l).size() > 0")
    numbers = [float(n) for n in range(2_000)]
    history.set(1, l=numbers)
    history.set(2, l=[*numbers[:100], -1_000.0])
    begun_at = perf_counter()
    tables = folded(history)
    assert perf_counter() - begun_at < LOOP_SECONDS_MAX
    assert members(tables, "pairs") == members(tables, "lists") == {record_id(2)}


def test_whoever_agreed_until_now_is_in_no_answer_though_the_log_was_not_told() -> None:
    history = begun()
    history.segment("buyers", 'seen("Bought", "30d")', purposes=("analytics", "marketing"))
    for number, until in ((1, DAY), (2, 2 * DAY), (3, None)):
        history.did(number, "Bought")
        history.say(number, "marketing", ConsentState.GIVEN, until=until)
    tables, sets = folded(history), Sets()
    for seconds, left in ((DAY - 1, {1, 2, 3}), (DAY, {2, 3}), (5 * DAY, {3})):
        now, asked = history.time(seconds), InSegment("buyers")
        count = count_audience(tables, sets, asked, purpose="marketing", now=now)
        numbers = audience_members(tables, sets, asked, purpose="marketing", now=now)
        wanted = {record_id(number) for number in left}
        assert count == len(wanted)
        assert {customer_numbered(tables, number) for number in numbers} == wanted
        for number in (1, 2, 3):
            assert is_open_for(tables, record_id(number), "marketing", now=now) is (number in left)
            listed = segments_of(tables, record_id(number), "marketing", now=now)
            assert bool(listed) is (number in left)


def test_an_expression_that_fails_says_no_and_stops_nobody() -> None:
    history = begun()
    history.segment("odd", "traits.size > 3")
    history.segment("big", "has(traits.size) && traits.size > 3")
    history.set(1, size="large")
    history.set(2, size=9)
    tables = folded(history)
    assert members(tables, "odd") == members(tables, "big") == {record_id(2)}


def test_a_circle_of_segments_in_the_log_has_no_members() -> None:
    history = begun()
    history.set(1, size=1)
    history.segment("one", '!segment("other")')
    history.segment("other", '!segment("one")')
    history.segment("third", "true")
    tables = folded(history)
    assert members(tables, "one") == members(tables, "other") == set()
    assert members(tables, "third") == {record_id(1)}


def test_a_membership_is_explained() -> None:
    history = begun()
    history.segment("loyal", 'count("Bought", "30d") >= 2 && traits.country == "JP"')
    history.set(1, country="JP")
    history.did(1, "Bought")
    history.now = DAY
    history.did(1, "Bought")
    tables = folded(history)
    why = explain_membership(tables, "loyal", record_id(1))
    assert why is not None
    assert (why.is_in, why.since_revision) == (True, len(history.entries))
    assert why.sure_until == microseconds(history.time(30 * DAY))
    assert [reading.value for reading in why.readings] == [2]
    assert why.traits == {"country": "JP"}
    history.advance(31 * DAY)
    why = explain_membership(folded(history), "loyal", record_id(1))
    assert why is not None
    assert (why.is_in, why.since_at) == (False, microseconds(history.time(30 * DAY)))


def test_a_membership_by_another_segment_is_sure_as_long_as_that_is() -> None:
    history = begun()
    history.segment("buyers", 'seen("Bought", "30d")')
    history.segment("named", 'segment("buyers") && traits.country == "JP"')
    history.segment("deeper", '!segment("named") || true')
    history.set(1, country="JP")
    history.did(1, "Bought")
    tables = folded(history)
    until = microseconds(history.time(30 * DAY))
    why = explain_membership(tables, "named", record_id(1))
    assert why is not None
    assert [why.sure_until, *(reading.due for reading in why.readings)] == [until, until]
    found = segments_of(tables, record_id(1), "analytics")
    assert {one.segment: one.sure_until for one in found} == dict.fromkeys(
        ("buyers", "deeper", "named"), until
    )


def test_a_membership_is_as_sure_as_the_purpose_that_asks_is_open() -> None:
    history = begun()
    purposes = {"analytics": 30 * DAY, "marketing": DAY}
    history.segment("buyers", 'seen("Bought", "30d")', purposes=tuple(purposes))
    history.did(1, "Bought")
    history.say(1, "marketing", ConsentState.GIVEN, until=DAY)
    tables = folded(history)
    for purpose, seconds in purposes.items():
        until = microseconds(history.time(seconds))
        why = explain_membership(tables, "buyers", record_id(1), purpose=purpose)
        assert why is not None
        assert why.sure_until == until
        assert [one.sure_until for one in segments_of(tables, record_id(1), purpose)] == [until]


def test_a_count_is_previewed_before_a_segment_is_saved() -> None:
    history = begun()
    for number in range(5):
        history.did(number, "Bought", amount=number)
    tables = folded(history)
    expression = 'sum("Bought", "amount") >= 2.0'
    assert check_definition(tables, expression, purposes=("analytics",)).signals == {"Bought"}
    assert preview_counts(tables, expression, purposes=("analytics",)) == {"analytics": 3}


def test_a_back_fill_tells_apart_values_that_only_python_holds_for_equal() -> None:
    history = begun()
    for number, value in enumerate((True, 1, 1.0, "1", True, 1)):
        history.set(number, flag=value)
    history.define("flagged", "traits.flag == true")
    tables = folded(history)
    assert not fill_slice(tables)
    defined = len(history.entries)
    history.activate("flagged")
    fold_batch(tables, history.entries[defined:])
    assert members(tables, "flagged") == {record_id(0), record_id(4)}
