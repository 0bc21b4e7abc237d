"""Read model: where each record's stream ends (R3).

Table `heads`: record id -> {revision, version, digest} of its last event, also of one that is
parked. What the log later says of a record is compared with it: by hosts that wake the record, and
by `koseki verify`, which names the records that a damaged log has lost events of.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.ids import RecordId, StreamKind
from eventlog.port import Entry, Head
from projections.rows import Row
from projections.tables import ReadTables, Tables

HEADS = "heads"
TABLES = (HEADS,)


def note(tables: Tables, entry: Entry) -> None:
    """Take an event of a record as the end of its stream; one without a version has the next."""
    if entry.stream.kind is not StreamKind.RECORD:
        return
    key = entry.stream.key.encode()
    row = tables.get(HEADS, key)
    version = 1 if row is None else row["version"] + 1
    fresh = {"revision": entry.revision, "version": version, "digest": entry.digest.hex()}
    tables.put(HEADS, key, fresh)


def head_of(tables: ReadTables, record_id: RecordId) -> Head | None:
    """Give the last event of a record, as of the checkpoint; None for a record without any."""
    row = tables.get(HEADS, record_id.encode())
    return None if row is None else _head(row)


def heads_in(rows: Iterable[tuple[bytes, Row]]) -> dict[RecordId, Head]:
    """Give the last event of every record that the table's rows know."""
    return {RecordId(key.decode()): _head(row) for key, row in rows}


def _head(row: Row) -> Head:
    return Head(row["revision"], row["version"], bytes.fromhex(row["digest"]))
