"""The members of every segment as roaring bitmaps over a dense number per customer.

Local to a replica, in no digest. `customer_numbers`: root -> number, `numbered_customers`: number
-> root, `segment_members`: segment -> serialised bitmap (one value: a million members are 131 KB at
most), `segment_versions`: segment -> drawn anew whenever it is stored, so that readers can keep it
decoded. Another generation of the read side may number customers otherwise: see `numbering`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from operator import itemgetter

from pyroaring import BitMap

from domain.ids import RecordId
from projections.sets import SetChange, read_set
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
        self._changes: defaultdict[str, SetChange] = defaultdict(SetChange)

    def add(self, name: str, root: RecordId) -> None:
        """Put a customer into a set."""
        self._changes[name].add(self._number(root))

    def discard(self, name: str, root: RecordId) -> None:
        """Take a customer out of a set."""
        self._changes[name].discard(self._number(root))

    def members(self, name: str) -> BitMap:
        """Give a set as the transaction has left it."""
        members = read_bitmap(self._tables, name)
        change = self._changes.get(name)
        return members if change is None else change.applied_to(members)

    def clear(self, name: str) -> None:
        """Empty a set."""
        left = SetChange(removed=self.members(name))
        self._changes[name] = self._changes[name].then(left)

    def store(self) -> None:
        """Hand the changed sets to the transaction."""
        for name, change in sorted(self._changes.items(), key=itemgetter(0)):
            self._tables.amend(MEMBERS, name.encode(), change)
            self._tables.store(VERSIONS, name.encode(), os.urandom(_DRAWN_BYTES))
        self._changes.clear()

    def _number(self, root: RecordId) -> int:
        known = number_of(self._tables, root)
        if known is not None:
            return known
        number = next_number(self._tables)
        number_from(self._tables, number + 1)
        if self._tables.load(NUMBERS, _NUMBERING) is None:
            self._tables.store(NUMBERS, _NUMBERING, os.urandom(_DRAWN_BYTES))
        self._tables.store(NUMBERS, root.encode(), _write_number(number))
        self._tables.store(CUSTOMERS, _write_number(number), root.encode())
        return number


def read_bitmap(tables: ReadTables, name: str) -> BitMap:
    """Read a set; empty where nobody was ever in it."""
    return read_set(tables.load(MEMBERS, name.encode()))


def next_number(tables: ReadTables) -> int:
    """Give the first number that no customer has."""
    stored = tables.load(NUMBERS, _NEXT)
    return 0 if stored is None else _read_number(stored)


def number_from(tables: Tables, number: int) -> None:
    """Let the next customer have this number."""
    tables.store(NUMBERS, _NEXT, _write_number(number))


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
