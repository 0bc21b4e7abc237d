"""What a transaction has read and changed of one table: each row decoded once, and written once.

Used by `tables.py` alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from projections.rows import Row, encode_row


@dataclass(slots=True)
class TouchedRows:
    """Rows by key."""

    rows: dict[bytes, Row | None] = field(default_factory=dict)
    """As they are now; None where there is none."""
    stored: dict[bytes, bytes | None] = field(default_factory=dict)
    """As they were before, of the same keys."""
    changed: set[bytes] = field(default_factory=set)
    ordered: list[bytes] | None = None
    """The changed keys in order; kept so from the first scan on, for most need none."""

    def change(self, key: bytes, row: Row | None) -> None:
        """Take a row whose key is known here as it is from now on."""
        self.rows[key] = row
        if key not in self.changed:
            self.changed.add(key)
            if self.ordered is not None:
                insort(self.ordered, key)

    def forget(self, key: bytes) -> None:
        """Know nothing of a row any more."""
        self.rows.pop(key, None)
        self.stored.pop(key, None)
        self.changed.discard(key)
        self.ordered = None

    def in_order(self) -> list[bytes]:
        """Give the changed keys in order."""
        if self.ordered is None:
            self.ordered = sorted(self.changed)
        return self.ordered

    def changed_from(self, start: bytes) -> Iterator[bytes]:
        """Yield the changed keys from one on, in order, while none is changed."""
        ordered = self.in_order()
        for place in range(bisect_left(ordered, start), len(ordered)):
            yield ordered[place]

    def encoded(self) -> dict[bytes, bytes | None]:
        """Write what changed as open rows."""
        rows = ((key, self.rows[key]) for key in sorted(self.changed))
        return {key: None if row is None else encode_row(row) for key, row in rows}
