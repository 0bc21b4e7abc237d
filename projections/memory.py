"""Tables in memory: for replays, for what is asked of nobody in particular, and for tests."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator

from projections.key_order import reordered
from projections.rows import OpenRows, RowCodec
from projections.stored_rows import StoredRows
from projections.tables import Changes, Checkpoint, Transaction


class MemoryTables(StoredRows):
    """Rows in dictionaries, in one transaction at a time."""

    def __init__(self, codec: RowCodec | None = None) -> None:
        self._codec: RowCodec = codec or OpenRows()
        self._tables: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)
        self._ordered: dict[str, list[bytes]] = {}
        self._checkpoint = Checkpoint()
        self._before: list[tuple[str, bytes, bytes | None]] = []

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the rows stand at."""
        return self._checkpoint

    @property
    def codec(self) -> RowCodec:
        """How rows are stored."""
        return self._codec

    def begin(self) -> Transaction:
        """Start a transaction; one at a time."""
        return Transaction(self)

    def count(self, table: str) -> int:
        """Say how many rows a table has."""
        return len(self._tables[table])

    def load(self, table: str, key: bytes) -> bytes | None:
        """Read a row as stored."""
        return self._tables[table].get(key)

    def load_many(self, table: str, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Read rows as stored, those that are there."""
        rows = self._tables[table]
        return {key: rows[key] for key in keys if key in rows}

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows as stored, in order of keys."""
        rows = self._tables[table]
        if table not in self._ordered:
            self._ordered[table] = sorted(rows)
        ordered = self._ordered[table]
        for index in range(bisect_left(ordered, max(prefix, start)), len(ordered)):
            key = ordered[index]
            if not key.startswith(prefix):
                return
            yield key, rows[key]

    def write(self, changes: Changes) -> None:
        """Take changes over, and note what was there before them."""
        for table, changed in changes.items():
            rows = self._tables[table]
            self._before += [(table, key, rows.get(key)) for key in changed]
        self._take_over(changes)

    def commit(self, changes: Changes, checkpoint: Checkpoint) -> None:
        """Take over a transaction's changes."""
        self._take_over(changes)
        self._before.clear()
        self._checkpoint = checkpoint

    def abort(self) -> None:
        """Put back what was written."""
        while self._before:
            table, key, encoded = self._before.pop()
            self._take_over({table: {key: encoded}})

    def _take_over(self, changes: Changes) -> None:
        for table, changed in changes.items():
            rows = self._tables[table]
            if table in self._ordered:
                self._ordered[table] = reordered(self._ordered[table], rows, changed)
            for key, encoded in changed.items():
                if encoded is None:
                    rows.pop(key, None)
                else:
                    rows[key] = encoded
