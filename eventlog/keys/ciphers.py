"""Ciphers of the data keys that were used last.

To make one takes longer than to seal an event with it, and to keep one takes ten times the memory
of its key: so a process keeps those of the records that are busy.
"""

from __future__ import annotations

from collections import OrderedDict

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId

CIPHERS_HELD_MAX = 4_096
"""About 2.5 KB each."""


class Ciphers:
    """Hold ciphers of records, least recently used first."""

    def __init__(self, *, ciphers_max: int = CIPHERS_HELD_MAX) -> None:
        self._ciphers_max = ciphers_max
        self._held: OrderedDict[RecordId, AESGCM] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, record_id: RecordId) -> AESGCM | None:
        """Give the cipher of a record's key, if it is held."""
        cipher = self._held.get(record_id)
        if cipher is not None:
            self._held.move_to_end(record_id)
        return cipher

    def hold(self, record_id: RecordId, cipher: AESGCM) -> None:
        """Hold the cipher of a record's key."""
        self._held[record_id] = cipher
        if len(self._held) > self._ciphers_max:
            self._held.popitem(last=False)

    def forget(self, record_id: RecordId) -> None:
        """Let go of a record's cipher: its key is destroyed."""
        self._held.pop(record_id, None)

    def clear(self) -> None:
        """Hold nothing."""
        self._held.clear()
