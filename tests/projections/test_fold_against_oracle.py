"""R8, R9, R12, R17: random histories, folded, against the slow and obvious answer."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.ids import RecordId
from projections.fold import TABLES, fold_batch
from projections.memory import MemoryTables
from projections.rows import encode_row, row_digest
from projections.tables import DIGEST_MODULUS
from projections.tallies import Tally
from projections.views import CustomerView, customer_view
from tests.projections import oracle
from tests.projections.histories import (
    PURPOSES,
    SERVED,
    SOURCES,
    History,
    batches,
    random_history,
    step,
)

NUMBERS = st.integers(min_value=0, max_value=100_000)
STEPS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=60)
RECORDS = 5


def folded(history: History, batch_events: int = 1_000) -> MemoryTables:
    tables = MemoryTables()
    for batch in batches(history.entries, batch_events):
        fold_batch(tables, batch)
    return tables


def history_of(steps: list[tuple[int, int, int, int]]) -> History:
    history = History()
    history.rules()
    for numbers in steps:
        step(history, *numbers, records=RECORDS)
    return history


def plain(tallies: tuple[Tally, ...]) -> oracle.Tallies:
    return {
        (tally.source, tally.name): (
            tally.count,
            {name: (known.count, Fraction(known.total)) for name, known in tally.sums.items()},
        )
        for tally in tallies
    }


def assert_agrees(history: History, view: CustomerView, members: set[RecordId]) -> None:
    events = history.events
    sources = {s for s in SOURCES if view.purpose == "audit" or view.purpose in SERVED[s]}
    priorities = {source: SOURCES[source] for source in sources}
    seen = {trait.name: trait.winner.value for trait in view.traits}
    assert view.customer_id == min(members)
    assert set(view.members) == members
    assert plain(view.tallies) == oracle.tallies(events, members, sources)
    assert seen == oracle.traits(events, members, priorities)
    values = {identifier.value for identifier in view.identifiers}
    assert values == oracle.identifiers(events, members, sources)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_every_customer_is_seen_as_the_oracle_sees_it(
    steps: list[tuple[int, int, int, int]],
) -> None:
    history = history_of(steps)
    tables = folded(history)
    for members in oracle.customers(history.events):
        for asked in members:
            for purpose in (*PURPOSES, "audit"):
                view = customer_view(tables, asked, purpose)
                assert view is not None
                basis = PURPOSES.get(purpose)
                is_open = basis is None or oracle.is_open(history.events, members, purpose, basis)
                assert view.is_open == is_open
                if is_open:
                    assert_agrees(history, view, members)
                else:
                    assert (view.identifiers, view.traits, view.tallies) == ((), (), ())


@settings(deadline=None, max_examples=60)
@given(STEPS, st.integers(min_value=1, max_value=9))
def test_the_digest_does_not_depend_on_where_batches_end(
    steps: list[tuple[int, int, int, int]], batch_events: int
) -> None:
    history = history_of(steps)
    assert folded(history, batch_events).checkpoint == folded(history).checkpoint


def test_the_running_digest_is_the_sum_over_all_rows() -> None:
    tables = folded(random_history(7, events=2_000, records=40), batch_events=13)
    total = sum(
        row_digest(table, key, encode_row(row))
        for table in TABLES
        for key, row in tables.scan(table, b"")
    )
    assert (total % DIGEST_MODULUS).to_bytes(32, "big") == tables.checkpoint.rows_digest


def test_a_long_random_history_agrees_for_the_auditor() -> None:
    history = random_history(11, events=1_500, records=30)
    tables = folded(history, batch_events=100)
    for members in oracle.customers(history.events):
        view = customer_view(tables, max(members), "audit")
        assert view is not None
        assert_agrees(history, view, members)
