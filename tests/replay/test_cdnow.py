"""Recency and frequency of 2,357 real customers as of a date, as others have published them.

The published table (`data/README.md`) says of each what is to be found. What it does not say is
worked out of the purchases here again, without anything of Koseki's.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from domain.ids import RecordId
from eventlog.port import LogReader
from projections import timeline
from projections.fold import fold_excerpt, let_time_pass
from projections.instants import time_of
from projections.memory import MemoryTables
from projections.segments.membership import MEMBERSHIPS
from replay.as_of import AsOf, Prefix, find_prefix, within
from replay.customer import fold_members
from tests.projections.histories import ListedLog, record_id
from tests.projections.segments.happenings import Happenings

FILE = Path(__file__).parents[2] / "app" / "data" / "cdnow_sample.txt"
PUBLISHED = Path(__file__).parent / "data" / "cdnow_customers_summary.csv"
BEGINNING = datetime(1997, 1, 1, tzinfo=UTC)
DATE = datetime(1997, 9, 30, 12, tzinfo=UTC)
"""Purchases are dated by the day: none lies on an edge of a window."""

WEEK = timedelta(weeks=1)
REGULAR_WEEKS, NEW_WEEKS = 20, 30
PUBLISHED_TO = 0.005001
"""Two digits of weeks and dollars are published."""

ORDER = "Order Completed"
SEGMENTS = {
    "three_orders": f'count("{ORDER}", "ever") >= 3',
    "recent": f'seen("{ORDER}", "90d")',
    "spenders": f'sum("{ORDER}", "dollars", "ever") > 100.0',
    "lapsed": f'seen("{ORDER}", "180d") && !seen("{ORDER}", "60d")',
    "regular": f'last("{ORDER}") - first("{ORDER}") >= duration("{REGULAR_WEEKS * 7 * 24}h")',
    "new": f'first("{ORDER}") > timestamp("{DATE - NEW_WEEKS * WEEK:%Y-%m-%dT%H:%M:%SZ}")',
}


@dataclass(frozen=True, slots=True)
class Purchase:
    day: datetime
    customer: int
    dollars: float


class Published(NamedTuple):
    """Of a customer: repeat days, weeks to the last and since the first day, dollars a day."""

    repeats: int
    recency: float
    age: float
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


def published() -> dict[RecordId, Published]:
    with PUBLISHED.open(newline="") as file:
        return {
            record_id(int(row["ID"])): Published(
                int(row["x"]), float(row["t_x"]), float(row["T"]), float(row["zbar"])
            )
            for row in csv.DictReader(file)
        }


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


def found_of(tables: MemoryTables, who: RecordId) -> Published:
    by_day: defaultdict[datetime, float] = defaultdict(float)
    for signal in timeline.signals(tables, [who]):
        by_day[time_of(signal.at)] += float(str(signal.properties["dollars"]))
    first, *repeats = sorted(by_day)
    return Published(
        repeats=len(repeats),
        recency=(max(by_day) - first) / WEEK,
        age=(DATE.replace(hour=0) - first) / WEEK,
        dollars=sum(by_day[day] for day in repeats) / max(1, len(repeats)),
    )


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

    everybody, table = by_customer(), published()
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
        "regular": {who for who, told in table.items() if told.recency >= REGULAR_WEEKS},
        "new": {who for who, told in table.items() if told.age < NEW_WEEKS},
    }


@pytest.mark.parametrize(
    "as_of", [AsOf(known=DATE), AsOf(happened=DATE)], ids=["known", "happened"]
)
async def test_recency_and_frequency_are_those_that_are_published(shop: Shop, as_of: AsOf) -> None:
    tables, prefix = await past(shop, as_of)
    assert prefix.clock == DATE
    table = published()
    assert len(table) == 2_357
    for who, told in table.items():
        assert tuple(found_of(tables, who)) == pytest.approx(tuple(told), abs=PUBLISHED_TO)


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
        alone = await fold_members(log, prefix, record_ids=[who])
        assert set(alone.segments(who)) == {name for name in SEGMENTS if who in wanted[name]}
