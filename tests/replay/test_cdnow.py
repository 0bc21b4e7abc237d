"""Recency and frequency of 2,357 real customers as of a date, as others have published them.

The file is read here again, and what it says is worked out without anything of Koseki's. The means
are those of the calibration period to 1997-09-30 in the literature on this sample, in weeks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from domain.ids import RecordId
from eventlog.port import LogReader
from projections import timeline
from projections.fold import fold_excerpt, let_time_pass
from projections.instants import time_of
from projections.memory import MemoryTables
from projections.segments.membership import MEMBERSHIPS
from replay.as_of import AsOf, Prefix, find_prefix, within
from replay.customer import fold_customers
from tests.projections.histories import ListedLog, record_id
from tests.projections.segments.happenings import Happenings

FILE = Path(__file__).parents[2] / "app" / "data" / "cdnow_sample.txt"
BEGINNING = datetime(1997, 1, 1, tzinfo=UTC)
DATE = datetime(1997, 9, 30, 12, tzinfo=UTC)
"""Purchases are dated by the day: none lies on an edge of a window."""

WEEK = timedelta(weeks=1)
ORDER = "Order Completed"
PUBLISHED_MEANS = {"frequency": 1.0424, "recency": 6.845, "age": 32.716}
SEGMENTS = {
    "three_orders": f'count("{ORDER}", "ever") >= 3',
    "recent": f'seen("{ORDER}", "90d")',
    "spenders": f'sum("{ORDER}", "dollars", "ever") > 100.0',
    "lapsed": f'seen("{ORDER}", "180d") && !seen("{ORDER}", "60d")',
}


@dataclass(frozen=True, slots=True)
class Purchase:
    day: datetime
    customer: int
    dollars: float


class Shop(Happenings):
    """A history that begins with the file."""

    @staticmethod
    def time(seconds: int) -> datetime:
        return BEGINNING + timedelta(seconds=seconds)


def purchases() -> Iterator[Purchase]:
    for line in FILE.read_text().splitlines():
        if line.strip():
            _, customer, day, _, dollars = line.split()
            at = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
            yield Purchase(at, int(customer), float(dollars))


@pytest.fixture(scope="module")
def shop() -> Shop:
    history = Shop()
    history.rules()
    for name, expression in SEGMENTS.items():
        history.segment(name, expression)
    for purchase in sorted(purchases(), key=lambda p: p.day):
        history.now = int((purchase.day - BEGINNING).total_seconds())
        history.did(purchase.customer, ORDER, dollars=purchase.dollars)
    return history


async def past(shop: Shop, as_of: AsOf) -> tuple[MemoryTables, Prefix]:
    log = cast("LogReader", ListedLog(shop.entries))
    prefix = await find_prefix(log, as_of, now=datetime(2026, 1, 1, tzinfo=UTC))
    tables = MemoryTables()
    fold_excerpt(tables, within(shop.entries, prefix))
    let_time_pass(tables, prefix.clock)
    return tables, prefix


def by_customer() -> dict[RecordId, list[Purchase]]:
    found: defaultdict[RecordId, list[Purchase]] = defaultdict(list)
    for purchase in purchases():
        if purchase.day <= DATE:
            found[record_id(purchase.customer)].append(purchase)
    return dict(found)


def wanted_members() -> dict[str, set[RecordId]]:
    def since(theirs: list[Purchase], days: int) -> bool:
        return any(p.day > DATE - timedelta(days=days) for p in theirs)

    everybody = by_customer()
    return {
        "three_orders": {who for who, theirs in everybody.items() if len(theirs) >= 3},
        "recent": {who for who, theirs in everybody.items() if since(theirs, 90)},
        "spenders": {
            who
            for who, theirs in everybody.items()
            if round(sum(p.dollars for p in theirs), 2) > 100
        },
        "lapsed": {
            who for who, theirs in everybody.items() if since(theirs, 180) and not since(theirs, 60)
        },
    }


@pytest.mark.parametrize(
    "as_of", [AsOf(known=DATE), AsOf(happened=DATE)], ids=["known", "happened"]
)
async def test_recency_and_frequency_are_those_that_are_published(shop: Shop, as_of: AsOf) -> None:
    tables, prefix = await past(shop, as_of)
    assert prefix.clock == DATE
    frequencies, recencies, ages = [], [], []
    for who, theirs in by_customer().items():
        days = sorted({time_of(s.at) for s in timeline.signals(tables, [who])})
        assert days == sorted({p.day for p in theirs})
        frequencies.append(len(days) - 1)
        recencies.append((days[-1] - days[0]) / WEEK)
        ages.append((DATE.replace(hour=0) - days[0]) / WEEK)
    people = len(frequencies)
    assert (people, sum(frequencies)) == (2_357, 2_457)
    means = {
        "frequency": sum(frequencies) / people,
        "recency": sum(recencies) / people,
        "age": sum(ages) / people,
    }
    assert means == pytest.approx(PUBLISHED_MEANS, rel=2e-4)


@pytest.mark.parametrize(
    "as_of", [AsOf(known=DATE), AsOf(happened=DATE)], ids=["known", "happened"]
)
async def test_segments_hold_who_belonged_on_that_day(shop: Shop, as_of: AsOf) -> None:
    tables, prefix = await past(shop, as_of)
    found: dict[str, set[RecordId]] = {name: set() for name in SEGMENTS}
    for key, row in tables.scan(MEMBERSHIPS, b""):
        for name in row["in"].keys() & SEGMENTS.keys():
            found[name].add(RecordId(key.decode()))
    wanted = wanted_members()
    assert found == wanted
    assert all(found.values())
    log = cast("LogReader", ListedLog(shop.entries))
    for who in sorted(by_customer())[:20]:  # one alone, from its own streams
        alone = await fold_customers(log, prefix, record_ids=[who])
        assert set(alone.segments(who)) == {name for name in SEGMENTS if who in wanted[name]}
