"""Rows read from what is stored of them: the same for every place that keeps them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from domain.ids import RecordId
from projections.rows import Row, RowCodec


class StoredRows(ABC):
    """Opens with a codec what `load` and `scan_stored` find."""

    @property
    @abstractmethod
    def codec(self) -> RowCodec:
        """How rows are stored."""

    @abstractmethod
    def load(self, table: str, key: bytes) -> bytes | None:
        """Read a row as stored."""

    @abstractmethod
    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows as stored, in order of keys."""

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Raise `KeysNotHeld` for all of these records at once, if keys are wanting."""
        self.codec.need(record_ids)

    def get(self, table: str, key: bytes) -> Row | None:
        """Read a row."""
        encoded = self.load(table, key)
        return None if encoded is None else self.codec.read(table, key, encoded)

    def scan(self, table: str, prefix: bytes, *, start: bytes = b"") -> Iterator[tuple[bytes, Row]]:
        """Yield the rows whose key starts with a prefix, in order of keys."""
        for key, encoded in self.scan_stored(table, prefix, start=start):
            yield key, self.codec.read(table, key, encoded)

    def scan_open(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, Row]]:
        """Yield as `scan` does, but of each row at least what is open; needs no key."""
        for key, encoded in self.scan_stored(table, prefix, start=start):
            yield key, self.codec.read_open(table, encoded)
