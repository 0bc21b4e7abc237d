"""The purchases of the CDNOW sample as Segment-spec calls. See `app/data/README.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

SOURCE = "shop"
ORDER = "Order Completed"


@dataclass(frozen=True, slots=True)
class Purchase:
    """One line of the file; `place` is its number among the customer's purchases, from 1."""

    line: int
    loyalty_id: str
    user_id: str
    time: datetime
    cds: int
    dollars: str
    place: int

    def call(self) -> dict[str, Any]:
        """Give it as a `track` call: by user id if its place is odd, else by loyalty id."""
        call: dict[str, Any] = {
            "type": "track",
            "event": ORDER,
            "messageId": str(self.line),
            "timestamp": self.time.isoformat(),
            "properties": {"cds": self.cds, "dollars": float(self.dollars)},
        }
        if self.place % 2:
            return call | {"userId": self.user_id}
        return call | {"context": external_id(self.loyalty_id)}


@dataclass(frozen=True, slots=True)
class Truth:
    """What the file says, for comparison with what the system answers."""

    purchases: int
    customers: int
    records: int
    cds: int
    dollars: Decimal
    first_customer: dict[str, Any]


def external_id(loyalty_id: str) -> dict[str, Any]:
    """Name a loyalty id as the Segment spec names ids of other systems."""
    return {"externalIds": [{"type": "loyalty_id", "id": loyalty_id}]}


def read_purchases() -> list[Purchase]:
    """Read the file, in its order."""
    text = (files("app") / "data" / "cdnow_sample.txt").read_text()
    seen: Counter[str] = Counter()
    return [_purchase(line, row, seen) for line, row in enumerate(_rows(text), start=1)]


def _rows(text: str) -> Iterator[list[str]]:
    return (line.split() for line in text.splitlines() if line.strip())


def _purchase(line: int, row: list[str], seen: Counter[str]) -> Purchase:
    loyalty_id, user_id, date, cds, dollars = row
    seen[user_id] += 1
    time = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
    return Purchase(line, loyalty_id, user_id, time, int(cds), dollars, seen[user_id])


def truth_of(purchases: list[Purchase]) -> Truth:
    """Add up the file."""
    by_customer = Counter(purchase.user_id for purchase in purchases)
    first = [p for p in purchases if p.user_id == min(by_customer)]
    return Truth(
        purchases=len(purchases),
        customers=len(by_customer),
        records=sum(min(count, 2) for count in by_customer.values()),
        cds=_cds(purchases),
        dollars=_dollars(purchases),
        first_customer={
            "purchases": len(first),
            "cds": _cds(first),
            "dollars": f"{_dollars(first):.2f}",
        },
    )


def _cds(purchases: list[Purchase]) -> int:
    return sum(purchase.cds for purchase in purchases)


def _dollars(purchases: list[Purchase]) -> Decimal:
    return sum((Decimal(purchase.dollars) for purchase in purchases), Decimal(0))
