"""R8 and exact sums, by example."""

from __future__ import annotations

from decimal import Decimal

import pytest

from domain.ids import OpenMap, RecordId
from domain.signals import EXACT
from projections import tallies
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.tallies import Tally, Totals
from tests.projections.histories import History, record_id, signal


def tally(history: History, *numbers: int) -> Tally:
    (only,) = tallies.combined(folded(history), [record_id(number) for number in numbers])
    return only


def folded(history: History) -> MemoryTables:
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    return tables


@pytest.fixture
def history() -> History:
    return History()


def test_a_signal_counts_once_on_its_record(history: History) -> None:
    history.signals(1, signal("a"), signal("a"))
    history.signals(1, signal("a"), signal("b"))
    assert tally(history, 1).count == 2
    assert tallies.read_totals(folded(history)) == Totals(counted=2, duplicates=2)


def test_the_same_message_id_of_another_source_is_another_signal(history: History) -> None:
    history.signals(1, signal("a"), source="shop")
    history.signals(1, signal("a"), source="web")
    found = tallies.combined(folded(history), [record_id(1)])
    assert [(t.source, t.count) for t in found] == [("shop", 1), ("web", 1)]


def test_a_signal_on_two_records_counts_on_each_and_once_when_combined(history: History) -> None:
    history.signals(2, signal("a", properties={"amount": 1, "first": 5}))
    history.signals(1, signal("a", properties={"amount": 2, "second": 7}))
    assert tally(history, 1).count == 1
    assert tally(history, 2).count == 1
    combined = tally(history, 1, 2)
    assert combined.count == 1
    assert {name: known.total for name, known in combined.sums.items()} == {
        "amount": Decimal(1),
        "first": Decimal(5),
    }


def test_the_lowest_revision_among_the_members_counts_when_the_first_copy_is_elsewhere(
    history: History,
) -> None:
    for number, amount in ((9, 1), (2, 2), (1, 3)):
        history.signals(number, signal("a", properties={"amount": amount}))
    assert tally(history, 1, 2).sums["amount"].total == Decimal(2)


def test_a_copy_under_another_name_leaves_no_empty_tally(history: History) -> None:
    history.signals(2, signal("a", "Kept"))
    history.signals(1, signal("a", "Taken off", {"amount": 0.1}))
    assert tally(history, 1, 2).name == "Kept"


def test_a_tenth_added_a_thousand_times_is_a_hundred(history: History) -> None:
    for number in range(1_000):
        history.signals(1, signal(f"m{number}", properties={"amount": 0.1}))
    history.signals(1, signal("last", properties={"amount": 0.2}))
    assert tally(history, 1).sums["amount"].total == Decimal("100.2")


def test_very_large_and_very_small_numbers_add_without_rounding(history: History) -> None:
    amounts = [1e308, 1e-300, 1.7976931348623157e308, 5e-324, -1e308]
    for number, amount in enumerate(amounts):
        history.signals(1, signal(f"m{number}", properties={"amount": amount}))
    expected = Decimal(0)
    for amount in amounts:
        expected = EXACT.add(expected, Decimal(repr(amount)))
    total = tally(history, 1).sums["amount"].total
    assert total == expected
    assert total > Decimal("1.7976931348623157e308")


def test_what_is_no_number_is_not_summed(history: History) -> None:
    properties: OpenMap = {"flag": True, "text": "1", "none": None, "list": [1], "huge": 10**400}
    history.signals(1, signal("a", properties=properties))
    assert tally(history, 1).sums == {}


def test_nobody_has_no_tallies() -> None:
    assert tallies.combined(MemoryTables(), [RecordId(record_id(1))]) == []
