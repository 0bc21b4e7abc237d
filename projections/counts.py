"""Read model: how much the workspace holds.

Table `counts`: one row of numbers. `signals` and `declined` count what the events hold; which of
them are the same signal is the business of `tallies.py`. What a parked customer waits for is not
counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.event import Event, Recorded
from domain.identity_events import CustomersMerged, CustomersParted
from domain.ids import StreamKind
from domain.signal_events import SignalsDeclined, SignalsRecorded
from projections.tables import ReadTables, Tables

COUNTS = "counts"
TABLES = (COUNTS,)
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
    row = tables.get(COUNTS, _KEY)
    if row is None:
        row = {"events": 0, "records": 0, "merges": 0, "signals": 0, "declined": 0}
    row["events"] += 1
    if event.stream.kind is StreamKind.RECORD and event.version == 1:
        row["records"] += 1
    match event.body:
        case SignalsRecorded(signals=signals):
            row["signals"] += len(signals)
        case SignalsDeclined(message_ids=message_ids):
            row["declined"] += len(message_ids)
        case CustomersMerged(root=root, edges=edges) if root == event.stream.key:
            row["merges"] += len(edges)
        case CustomersParted(customer=whole, removed=removed) if whole == event.stream.key:
            row["merges"] -= len(removed)
    tables.put(COUNTS, _KEY, row)


def read_counts(tables: ReadTables) -> Counts:
    """Read the numbers."""
    row = tables.get(COUNTS, _KEY)
    return Counts() if row is None else Counts(**row)
