"""Read model: how much the workspace holds.

Table `counts`: one row of numbers; `declined`: record id -> {count}. What the events hold is
counted, signals by `tallies.py`. What a parked customer waits for is not counted, and of somebody
erased nothing but the events.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.event import Event, Recorded
from domain.identity_events import CustomersMerged, CustomersParted
from domain.ids import RecordId, StreamKind
from domain.signal_events import SignalsDeclined
from projections.rows import Row
from projections.tables import ReadTables, Tables
from projections.tallies import read_totals

COUNTS = "counts"
DECLINED = "declined"
TABLES = (COUNTS, DECLINED)
HEARS = (Event,)
_KEY = b"workspace"


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of a workspace. A live merge joins two customers: customers = records - merges."""

    events: int = 0
    records: int = 0
    merges: int = 0
    signals: int = 0
    declined: int = 0

    @property
    def customers(self) -> int:
        """How many customers the records form."""
        return self.records - self.merges


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    row = _row(tables)
    row["events"] += 1
    if event.stream.kind is StreamKind.RECORD and event.version == 1:
        row["records"] += 1
    match event.body:
        case SignalsDeclined(message_ids=message_ids) if message_ids:
            row["declined"] += len(message_ids)
            key = event.stream.key.encode()
            known = tables.get(DECLINED, key) or {"count": 0}
            tables.put(DECLINED, key, {"count": known["count"] + len(message_ids)})
        case CustomersMerged(root=root, edges=edges) if root == event.stream.key:
            row["merges"] += len(edges)
        case CustomersParted(customer=whole, removed=removed) if whole == event.stream.key:
            row["merges"] -= len(removed)
    tables.put(COUNTS, _KEY, row)


def read_counts(tables: ReadTables) -> Counts:
    """Read the numbers."""
    totals = read_totals(tables)
    return Counts(**_row(tables), signals=totals.counted + totals.duplicates)


def forget(
    tables: Tables, record_id: RecordId, *, is_counted: bool, merges: int, waited: int
) -> None:
    """Count a record no more, with the merges that it stood for; but what waited, as events."""
    declined = tables.get(DECLINED, record_id.encode()) or {"count": 0}
    row = _row(tables)
    row["events"] += waited
    row["records"] -= is_counted
    row["merges"] -= merges
    row["declined"] -= declined["count"]
    tables.put(COUNTS, _KEY, row)
    tables.delete(DECLINED, record_id.encode())


def _row(tables: ReadTables) -> Row:
    return tables.get(COUNTS, _KEY) or {"events": 0, "records": 0, "merges": 0, "declined": 0}
