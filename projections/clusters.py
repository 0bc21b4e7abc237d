"""Where rows lie on disk: those that an event of a record writes, beside each other.

A write transaction copies every page that it touches, and an event of somebody else touches other
pages. So the tables that grow with a record's events share one database, by record and then by
table; an event touches a page or two of them, not one of each. Tables that are read through from
end to end, of everybody, keep databases of their own. Used by `store.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from projections.customers import CUSTOMERS
from projections.heads import HEADS
from projections.segments.journal import OF_CUSTOMER
from projections.tallies import TALLIES
from projections.timeline import TIMELINE

Buffer = bytes | memoryview

RECORDS = "records"
"""The database of the tables whose keys are a record id, or begin with one and a slash."""

CLUSTERED = (HEADS, CUSTOMERS, TALLIES, OF_CUSTOMER, TIMELINE)
_SLASH = b"/"
_MARKS = {table: _SLASH + bytes([place]) for place, table in enumerate(CLUSTERED, start=1)}
_BEHIND_SLASH = b"0"


class Cursor(Protocol):
    """What is used of a cursor of the database."""

    def first(self) -> bool:
        """Go to the first key; false if there is none."""

    def set_range(self, key: bytes) -> bool:
        """Go to the first key that is not before this one; false if there is none."""

    def next(self) -> bool:
        """Go to the next key; false if there is none."""

    def key(self) -> Buffer:
        """Give the key."""

    def value(self) -> Buffer:
        """Give the value."""

    def __iter__(self) -> Iterator[tuple[Buffer, Buffer]]:
        """Yield keys with values from here on."""


def database_of(table: str) -> str:
    """Name the database that a table lies in."""
    return RECORDS if table in _MARKS else table


def place_of(table: str, key: bytes) -> bytes:
    """Give the key of a row in its database."""
    mark = _MARKS.get(table)
    if mark is None:
        return key
    end = key.find(_SLASH)
    return key + mark if end < 0 else key[:end] + mark + key[end:]


def scan(
    cursor: Cursor, table: str, *, prefix: bytes, start: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield a table's rows whose key starts with a prefix, from a key on, in order of keys."""
    first, mark = max(prefix, start), _MARKS.get(table)
    if mark is None:
        return _together(cursor, prefix, first)
    record, slash, _ = prefix.partition(_SLASH)
    if not slash:
        return _from_record_to_record(cursor, table, prefix=prefix, first=first)
    found = _together(cursor, place_of(table, prefix), place_of(table, first))
    behind_mark = len(record) + len(mark)
    return ((record + key[behind_mark:], value) for key, value in found)


def _together(cursor: Cursor, prefix: bytes, first: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not (cursor.set_range(first) if first else cursor.first()):
        return
    for found, value in cursor:
        key = bytes(found)
        if not key.startswith(prefix):
            return
        yield key, bytes(value)


def _from_record_to_record(
    cursor: Cursor, table: str, *, prefix: bytes, first: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Go past the rows of other tables."""
    mark = _MARKS[table]
    is_there = cursor.set_range(place_of(table, first)) if first else cursor.first()
    while is_there:
        place = bytes(cursor.key())
        end = place.index(_SLASH)
        record, found, rest = place[:end], place[end : end + len(mark)], place[end + len(mark) :]
        if found == mark:
            key = record + rest
            if not key.startswith(prefix):
                return
            yield key, bytes(cursor.value())
            is_there = cursor.next()
        elif found < mark:
            is_there = cursor.set_range(record + mark)
        else:
            is_there = cursor.set_range(record + _BEHIND_SLASH)
