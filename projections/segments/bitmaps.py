"""The members of every segment as roaring bitmaps over a dense number per customer.

Local to a replica, in no digest. `customer_numbers`: root -> number, `numbered_customers`: number
-> root, `segment_members`: segment -> serialised bitmap (one value: a million members are 131 KB at
most), `segment_versions`: segment -> drawn anew whenever it is stored, so that readers can keep it
decoded. Another generation of the read side may number customers otherwise: see `numbering`.
"""

from __future__ import annotations

import os

from pyroaring import BitMap

from domain.ids import RecordId
from projections.tables import ReadTables, Tables

NUMBERS = "customer_numbers"
CUSTOMERS = "numbered_customers"
MEMBERS = "segment_members"
VERSIONS = "segment_versions"
LOCAL_TABLES = (NUMBERS, CUSTOMERS, MEMBERS, VERSIONS)

_NEXT = b"~next"
_NUMBERING = b"~numbering"
_NUMBER_BYTES = 4
_DRAWN_BYTES = 8


class Bitmaps:
    """The sets as one transaction changes them."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._loaded: dict[str, BitMap] = {}
        self._changed: set[str] = set()

    def add(self, name: str, root: RecordId) -> None:
        """Put a customer into a set."""
        self._load(name).add(self._number(root))
        self._changed.add(name)

    def discard(self, name: str, root: RecordId) -> None:
        """Take a customer out of a set."""
        self._load(name).discard(self._number(root))
        self._changed.add(name)

    def members(self, name: str) -> BitMap:
        """Give a set as the transaction has left it; it is not to be changed."""
        return self._load(name)

    def clear(self, name: str) -> None:
        """Empty a set."""
        self._loaded[name] = BitMap()
        self._changed.add(name)

    def store(self) -> None:
        """Hand the changed sets to the transaction."""
        for name in sorted(self._changed):
            self._tables.store(MEMBERS, name.encode(), self._loaded[name].serialize())
            self._tables.store(VERSIONS, name.encode(), os.urandom(_DRAWN_BYTES))
        self._changed.clear()

    def _load(self, name: str) -> BitMap:
        if name not in self._loaded:
            self._loaded[name] = read_bitmap(self._tables, name)
        return self._loaded[name]

    def _number(self, root: RecordId) -> int:
        known = number_of(self._tables, root)
        if known is not None:
            return known
        stored = self._tables.load(NUMBERS, _NEXT)
        number = 0 if stored is None else _read_number(stored)
        self._tables.store(NUMBERS, _NEXT, _write_number(number + 1))
        if self._tables.load(NUMBERS, _NUMBERING) is None:
            self._tables.store(NUMBERS, _NUMBERING, os.urandom(_DRAWN_BYTES))
        self._tables.store(NUMBERS, root.encode(), _write_number(number))
        self._tables.store(CUSTOMERS, _write_number(number), root.encode())
        return number


def read_bitmap(tables: ReadTables, name: str) -> BitMap:
    """Read a set; empty where nobody was ever in it."""
    stored = tables.load(MEMBERS, name.encode())
    return BitMap() if stored is None else BitMap.deserialize(stored)


def read_version(tables: ReadTables, name: str) -> bytes:
    """Tell apart what was stored of a set at different times, or in different generations."""
    return tables.load(VERSIONS, name.encode()) or b""


def numbering(tables: ReadTables) -> bytes:
    """Tell apart generations, whose numbers may stand for different customers."""
    return tables.load(NUMBERS, _NUMBERING) or b""


def number_of(tables: ReadTables, root: RecordId) -> int | None:
    """Give the number of a customer, if it has one."""
    stored = tables.load(NUMBERS, root.encode())
    return None if stored is None else _read_number(stored)


def customer_numbered(tables: ReadTables, number: int) -> RecordId | None:
    """Give the customer with a number."""
    stored = tables.load(CUSTOMERS, _write_number(number))
    return None if stored is None else RecordId(stored.decode())


def _write_number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _read_number(stored: bytes) -> int:
    return int.from_bytes(stored, "big")
