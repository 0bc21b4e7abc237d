"""Events as they go from a projector to the processes that fold with it.

Bodies travel as they are stored, in the open: to pickle the models takes three times as long.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from domain.event import Event, Recorded
from domain.ids import Stream
from eventlog.codec import encode_json
from eventlog.port import Entry
from eventlog.registry import class_named, wire_name

_Packed = tuple[str, bytes, tuple[Any, ...], bool, tuple[Any, ...]]
"""Name and body of an event, what stands before them in `Recorded`, whether it is erased, and what
follows the version in `Entry`."""


def pack(entries: Iterable[Entry]) -> bytes:
    """Pack events that could be decoded."""
    return pickle.dumps([_packed(entry, entry.event) for entry in entries if entry.event])


def unpack(packed: bytes) -> Sequence[Entry]:
    """Give the events that `pack` has packed; they are our own."""
    return [_entry(one) for one in pickle.loads(packed)]  # noqa: S301  # as said


def _packed(entry: Entry, event: Recorded[Event]) -> _Packed:
    (kind, key), *said, body, is_erased = event
    name, fields = wire_name(type(body)), encode_json(body.__dict__)
    rest = (entry.previous, entry.digest, entry.ends_append, entry.fault, entry.recorded_at)
    return name, fields, (kind, key, *said), is_erased, rest


def _entry(packed: _Packed) -> Entry:
    name, fields, (kind, key, *said), is_erased, rest = packed
    event_class = class_named(name)
    assert event_class is not None  # it was ours
    stream, body = Stream(kind, key), event_class.model_validate(orjson.loads(fields))
    event: Recorded[Event] = Recorded._make((stream, *said, body, is_erased))
    return Entry(event, stream, event.revision, event.version, *rest)
