"""A record as few bytes and back: for snapshots, and for customers that a host keeps awake.

MessagePack over columns that follow the fields of `Record` (`columns.py`): a field that is added is
packed without a change here, and gives another `schema`. Times come back in UTC. Measured with 10
identifiers, 20 traits, 5 acts and 50 signals: 3.6 KB, packed in 65 us and unpacked in 100 us.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import msgpack

from actors.columns import Column, column_of
from domain.record import FOLD_VERSION, Record

PACKING_VERSION = 1
"""Raised when the same fields are packed in another way."""

SCHEMA_BYTES = 8


class Unpackable(ValueError):
    """Bytes that are no record packed by this schema; the message holds nothing of them."""


def pack(record: Record) -> bytes:
    """Pack a record."""
    packed: bytes = msgpack.packb(_column().pack([record]))
    return packed


def unpack(packed: bytes) -> Record:
    """Unpack a record; `Unpackable` for anything else."""
    try:
        [record] = _column().unpack(msgpack.unpackb(packed, strict_map_key=False))
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise Unpackable(type(error).__name__) from None
    if not isinstance(record, Record):
        raise Unpackable("no record")
    return record


@cache
def schema() -> str:
    """Name what packed states look like and how they come about: other names, other states."""
    named = f"{PACKING_VERSION}/{FOLD_VERSION}/{_column().shape}"
    return sha256(named.encode()).hexdigest()[: 2 * SCHEMA_BYTES]


@cache
def _column() -> Column:
    return column_of(Record)
