"""Read model: which record holds an identifier. Keys only, never values.

Table `identifiers`: identifier key -> {record}. The last link wins, as it does in the log; what a
record gives up is nobody's. Of what an erased person held -> {erased}: the record that held it,
until it is readmitted.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.event import Event, Recorded
from domain.identity_events import (
    IdentifierReadmitted,
    IdentifiersLinked,
    IdentifiersUnlinked,
    IdentifierTombstoned,
)
from domain.ids import IdentifierKey, RecordId
from projections.tables import ReadTables, StoredTables, Tables

IDENTIFIERS = "identifiers"
TABLES = (IDENTIFIERS,)
HEARS = (IdentifiersLinked, IdentifiersUnlinked, IdentifierTombstoned, IdentifierReadmitted)


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    if isinstance(event.body, IdentifiersLinked):
        for key in event.body.keys:
            tables.put(IDENTIFIERS, key.encode(), {"record": event.stream.key})
    elif isinstance(event.body, IdentifiersUnlinked):
        for key in event.body.keys:
            if holder(tables, key) == event.stream.key:
                tables.delete(IDENTIFIERS, key.encode())
    elif isinstance(event.body, IdentifierTombstoned):
        row = {"erased": event.body.record_id}
        tables.put(IDENTIFIERS, event.stream.key.encode(), row)
    elif isinstance(event.body, IdentifierReadmitted):
        tables.delete(IDENTIFIERS, event.stream.key.encode())


def holder(tables: ReadTables, key: IdentifierKey) -> RecordId | None:
    """Find the record that holds an identifier."""
    row = tables.get(IDENTIFIERS, key.encode())
    return None if row is None or "record" not in row else RecordId(row["record"])


def holders(tables: StoredTables, keys: Iterable[IdentifierKey]) -> dict[str, RecordId]:
    """Find the records that hold identifiers, by key."""
    found = tables.load_many(IDENTIFIERS, [key.encode() for key in keys])
    rows = {key.decode(): tables.codec.read(IDENTIFIERS, key, row) for key, row in found.items()}
    return {key: RecordId(row["record"]) for key, row in rows.items() if "record" in row}


def is_of_erased(tables: ReadTables, key: IdentifierKey) -> bool:
    """Say whether somebody held an identifier who was erased, and it was not readmitted."""
    row = tables.get(IDENTIFIERS, key.encode())
    return row is not None and "erased" in row
