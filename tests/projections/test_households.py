"""Who is of a household, over random histories, against the slow and obvious answer."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.event import Event
from domain.ids import record_stream
from domain.preference_events import HouseholdLinked, HouseholdUnlinked
from projections import preferences
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.views import Household, customer_view
from tests.projections import oracle
from tests.projections.histories import SERVED, SOURCES, History, batches, record_id

HOMES = [str(UUID(int=number)) for number in (7, 8)]
RECORDS = 4
RECORD = st.integers(1, RECORDS)
TOLD = st.tuples(
    st.just("told"),
    RECORD,
    st.sampled_from(HOMES),
    st.sampled_from([*SOURCES, None, None]),
    st.integers(-50, 50),
)
MOVES = st.tuples(st.sampled_from(["merge", "undo"]), RECORD, RECORD)


def history_of(steps: list[tuple[object, ...]]) -> History:
    history = History()
    history.rules()
    for number in range(1, RECORDS + 1):
        history.link(number)
    for step in steps:
        match step:
            case ("told", int(number), str(home), source, int(happened)):
                body: Event = HouseholdUnlinked(household_id=home)
                if isinstance(source, str):
                    body = HouseholdLinked(household_id=home, source=source)
                history.append((record_stream(record_id(number)), body), happened=happened)
            case ("merge", int(one), int(other)):
                history.merge(one, other)
            case ("undo", int(number), int(which)):
                history.undo(number, which)
            case _:
                raise AssertionError(step)
    return history


def folded(history: History, size: int) -> MemoryTables:
    tables = MemoryTables()
    for batch in batches(history.entries, size):
        fold_batch(tables, batch)
    return tables


@settings(deadline=None, max_examples=150)
@given(st.lists(TOLD | MOVES, max_size=16), st.integers(1, 9))
def test_households_are_seen_as_the_oracle_sees_them(
    steps: list[tuple[object, ...]], size: int
) -> None:
    history = history_of(steps)
    tables = folded(history, size)
    everybody = oracle.customers(history.events)
    for purpose in ("service", "analytics", "audit"):
        sources = {s for s in SOURCES if purpose == "audit" or purpose in SERVED[s]}
        found = {
            min(members): oracle.households(history.events, members, sources)
            for members in everybody
        }
        for root, homes in found.items():
            view = customer_view(tables, root, purpose)
            assert view is not None
            assert view.households == tuple(
                Household(home, tuple(sorted(other for other in found if home in found[other])))
                for home in sorted(homes)
            )


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_rows_are_the_same_in_whatever_order_words_arrive(data: st.DataObject) -> None:
    long_ago = TOLD.filter(lambda told: told[-1] < 0)  # what is yet to come counts when it is told
    steps = data.draw(st.lists(long_ago, unique_by=lambda told: told[-1], max_size=8))
    one, other = (
        folded(history_of([*arriving]), 1)
        for arriving in (steps, data.draw(st.permutations(steps)))
    )
    for number in range(1, RECORDS + 1):
        seen = [preferences.households(tables, [record_id(number)]) for tables in (one, other)]
        first, second = ({home: {*by} for home, by in found.items()} for found in seen)
        assert first == second
    for home in HOMES:
        first_members, second_members = (
            {*preferences.household_members(tables, home)} for tables in (one, other)
        )
        assert first_members == second_members
