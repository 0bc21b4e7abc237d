"""Read model: who was erased, and what became of it.

Table `erasures`: root -> {revision, requested_at, records, identifiers; receipt: the body of
`CustomerErased`, or None}. Table `erasures_pending`: revision -> {root}, until there is a receipt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from domain.erasure_events import CustomerErased, ErasureRequested
from domain.event import Event, Recorded
from domain.ids import RecordId
from projections.instants import instant, instant_text
from projections.tables import ReadTables, Tables

ERASURES = "erasures"
PENDING = "erasures_pending"
TABLES = (ERASURES, PENDING)
HEARS = (ErasureRequested, CustomerErased)


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request of erasure, and its receipt if it is complete."""

    root: RecordId
    revision: int
    requested_at: datetime
    records: tuple[RecordId, ...]
    identifiers: int
    receipt: CustomerErased | None


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event; both stand on the root."""
    key = event.stream.key.encode()
    match event.body:
        case ErasureRequested(root=root, component=records) if root == event.stream.key:
            row = {
                "revision": event.revision,
                "requested_at": instant_text(event.recorded_at),
                "records": list(records),
                "identifiers": event.parts - len(records),
                "receipt": None,
            }
            tables.put(ERASURES, key, row)
            tables.put(PENDING, _place(event.revision), {"root": root})
        case CustomerErased() as receipt:
            known = tables.get(ERASURES, key)
            if known is not None:
                tables.put(ERASURES, key, {**known, "receipt": receipt.model_dump(mode="json")})
                tables.delete(PENDING, _place(known["revision"]))
        case _:
            pass


def erasure_of(tables: ReadTables, root: RecordId) -> Erasure | None:
    """Read what became of a customer's erasure; None for somebody who is not erased."""
    row = tables.get(ERASURES, root.encode())
    if row is None:
        return None
    receipt = row["receipt"]
    return Erasure(
        root=root,
        revision=row["revision"],
        requested_at=instant(row["requested_at"]),
        records=tuple(map(RecordId, row["records"])),
        identifiers=row["identifiers"],
        receipt=None if receipt is None else CustomerErased.model_validate(receipt),
    )


def pending(tables: ReadTables) -> Iterator[Erasure]:
    """Yield the erasures that have no receipt yet, the oldest first."""
    for _, row in tables.scan(PENDING, b""):
        erasure = erasure_of(tables, RecordId(row["root"]))
        if erasure is not None:
            yield erasure


def _place(revision: int) -> bytes:
    return f"{revision:020d}".encode()
