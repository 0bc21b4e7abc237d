"""What an answer was made of: every row that was read for it, as it is stored.

An answer may be given again as long as a later snapshot holds the very same bytes in the same
places, and the keys that they were opened with are still there (`services/kept.py`). The clock of
the log moves with every event and is left out: whoever keeps an answer keeps until when it is sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.ids import RecordId
from projections.clock import CLOCK
from projections.rows import Row, RowCodec
from projections.stored_rows import StoredRows
from projections.tables import Checkpoint, ReadTables

Scan = tuple[str, bytes, bytes]
Found = list[tuple[bytes, bytes]]


class Footprint(StoredRows):
    """Reads through to a snapshot, and notes what it has read."""

    def __init__(self, tables: ReadTables) -> None:
        self._tables = tables
        self._stands_at = tables.checkpoint
        self._loaded: dict[tuple[str, bytes], bytes | None] = {}
        self._scanned: dict[Scan, Found] = {}
        self._records: set[RecordId] = set()
        self._rows: dict[tuple[str, bytes], Row | None] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the rows stand at; not part of the footprint."""
        return self._tables.checkpoint

    @property
    def codec(self) -> RowCodec:
        """How rows are stored."""
        return self._tables.codec

    def __len__(self) -> int:
        """Count the places that were read."""
        return len(self._loaded) + sum(1 + len(found) for found in self._scanned.values())

    def is_in(self, tables: ReadTables) -> bool:
        """Say whether another snapshot has the same in all these places, and the keys as well.

        At one checkpoint, whose digest covers all rows, there is nothing to compare (R17).
        """
        if not tables.codec.opens(self._records):
            return False
        now = tables.checkpoint
        if now != self._stands_at and not self._is_stored_in(tables):
            return False
        self._stands_at = now
        return True

    def is_at(self, checkpoint: Checkpoint, codec: RowCodec) -> bool:
        """Say the same without a snapshot; no where it would have to be looked for in one."""
        return checkpoint is self._stands_at and codec.opens(self._records)

    def _is_stored_in(self, tables: ReadTables) -> bool:
        return all(tables.load(*place) == stored for place, stored in self._loaded.items()) and all(
            list(tables.scan_stored(table, prefix, start=start)) == found
            for (table, prefix, start), found in self._scanned.items()
        )

    def let_go(self) -> None:
        """Let go of the snapshot and of what was opened; what was noted stays."""
        del self._tables, self._rows

    def get(self, table: str, key: bytes) -> Row | None:
        """Read a row; it is opened once."""
        place = (table, key)
        if place not in self._rows:
            self._rows[place] = super().get(table, key)
        return self._rows[place]

    def load(self, table: str, key: bytes) -> bytes | None:
        """Read what is stored."""
        stored = self._tables.load(table, key)
        if table != CLOCK:
            self._loaded[table, key] = stored
        return stored

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield what is stored; all of it is read, whoever stops early."""
        found = list(self._tables.scan_stored(table, prefix, start=start))
        self._scanned[table, prefix, start] = found
        yield from found

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Raise `KeysNotHeld` for all of these records at once, if keys are wanting."""
        wanted = set(record_ids)
        self._records |= wanted
        self._tables.need(wanted)
