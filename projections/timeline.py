"""Read model: the signals of each record, by their names, in the order in which they happened.

Table `timeline`: record id/series/time/signal key -> {source, revision, name, kind, message_id,
properties}, the last four sealed. A series is a digest of the name and times are in microseconds
since the year 1: what one name did in a window is a range of keys, whatever else a person does, and
a late signal stands where it happened. A record holds a signal once (R8); of its copies on several
records of a customer the first counts (`copies.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import orjson
from pydantic import JsonValue

from domain.event import Event, Recorded
from domain.ids import OpenMap, RecordId
from domain.signal_events import SignalsRecorded
from domain.signals import Signal, SignalKey, signal_key
from projections import copies
from projections.copies import Copy
from projections.instants import microseconds
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables

TIMELINE = "timeline"
TABLES = (TIMELINE, *copies.TABLES)
_ERASED = {"name": "", "kind": "", "message_id": "", "properties": dict[str, object]()}
SEALED = {TIMELINE: Sealed(_ERASED, owned_by_key)}

INTEGER_BITS_HELD = 63
"""Of an integer in a row; a larger one is held as the nearest float, if there is one."""

FLOAT_BITS_MAX = 1_024
NAMES_CACHED_MAX = 8_192
AT_DIGITS = 18


class Occurrence(NamedTuple):
    """A copy of a signal of a name that is known, in the order of such; nothing was unsealed."""

    at: int
    key: SignalKey
    record_id: RecordId
    source: str
    place: bytes


@dataclass(frozen=True, slots=True)
class TimedSignal:
    """A copy of a signal; `at` in microseconds since the year 1."""

    at: int
    key: SignalKey
    record_id: RecordId
    source: str
    revision: int
    name: str
    kind: str
    message_id: str
    properties: OpenMap


def signal_time(event: Recorded[Event], signal: Signal) -> int:
    """Say when a signal happened; a time in the future counts as of when it was recorded."""
    return min(microseconds(signal.happened_at), microseconds(event.recorded_at))


@lru_cache(maxsize=NAMES_CACHED_MAX)
def series_of(name: str) -> str:
    """Give the series that the signals of a name form."""
    return blake2b(name.encode(), digest_size=16).hexdigest()


def put(tables: Tables, event: Recorded[Event], body: SignalsRecorded) -> Iterator[Row]:
    """Put the signals of an event on its record, and yield them as they stand there.

    One that the record holds already changes nothing.
    """
    record_id, revision, source = RecordId(event.stream.key), event.revision, body.source
    for signal in body.signals:
        key = signal_key(source, signal.message_id)
        place = _place(event, signal)
        if not copies.note(tables, Copy(record_id, key, revision, place)):
            continue
        row = {
            "source": source,
            "revision": revision,
            "name": signal.name,
            "kind": signal.kind,
            "message_id": signal.message_id,
            "properties": _held(signal.properties),
        }
        tables.add(TIMELINE, f"{record_id}/{place}/{key}".encode(), row)
        yield row


def forget(tables: Tables, record_id: RecordId) -> list[str]:
    """Leave nothing of a record; give the keys of the signals that it held."""
    places = [place for place, _ in tables.scan_open(TIMELINE, f"{record_id}/".encode())]
    for place in places:
        tables.delete(TIMELINE, place)
    return [place.decode().rpartition("/")[2] for place in places]


def put_by(
    tables: ReadTables, event: Recorded[Event], body: SignalsRecorded
) -> Iterator[tuple[str, Occurrence]]:
    """Yield the signals that an event put on its record just now, each once, with its name."""
    record_id = RecordId(event.stream.key)
    told = set[bytes]()
    for signal in body.signals:
        key = signal_key(body.source, signal.message_id)
        place = f"{record_id}/{_place(event, signal)}/{key}".encode()
        row = tables.get(TIMELINE, place)
        if place not in told and row is not None and row["revision"] == event.revision:
            told.add(place)
            at = signal_time(event, signal)
            yield signal.name, Occurrence(at, key, record_id, body.source, place)


def occurrences(
    tables: ReadTables, record_id: RecordId, name: str, *, start: int
) -> Iterator[Occurrence]:
    """Yield what a record holds of one name from an instant on, in order; unseals nothing."""
    prefix = f"{record_id}/{series_of(name)}/".encode()
    first = prefix + b"%018d" % start if start else b""
    begin, end = len(prefix), len(prefix) + AT_DIGITS
    for place, row in tables.scan_open(TIMELINE, prefix, start=first):
        key = SignalKey(place[end + 1 :].decode())
        yield Occurrence(int(place[begin:end]), key, record_id, row["source"], place)


def properties_of(tables: ReadTables, found: Occurrence) -> OpenMap:
    """Unseal what a signal carried."""
    row = tables.get(TIMELINE, found.place)
    properties: OpenMap = {} if row is None else row["properties"]
    return properties


def counted_twice(tables: ReadTables, members: tuple[RecordId, ...]) -> Iterator[TimedSignal]:
    """Yield the copies of signals on these records that do not count where they are combined."""
    for copy in copies.surplus(tables, members):
        row_key = f"{copy.record_id}/{copy.place}/{copy.key}".encode()
        row = tables.get(TIMELINE, row_key)
        if row is not None:
            yield _timed(copy.record_id, row_key, row)


def signals(tables: ReadTables, record_ids: Iterable[RecordId]) -> list[TimedSignal]:
    """List the signals of the customer that these records form, each once, in order of time."""
    members = tuple(record_ids)
    surplus = {(copy.record_id, copy.key) for copy in copies.surplus(tables, members)}
    found = (signal for member in members for signal in _on_record(tables, member))
    counted = [signal for signal in found if (signal.record_id, signal.key) not in surplus]
    return sorted(counted, key=lambda signal: (signal.at, signal.key))


def _on_record(tables: ReadTables, record_id: RecordId) -> Iterator[TimedSignal]:
    for place, row in tables.scan(TIMELINE, f"{record_id}/".encode()):
        yield _timed(record_id, place, row)


def _place(event: Recorded[Event], signal: Signal) -> str:
    return f"{series_of(signal.name)}/{signal_time(event, signal):018d}"


def _held(properties: OpenMap) -> OpenMap:
    """Give properties as a row gives them back: a fold must see the same before it is stored."""
    try:
        encoded = orjson.dumps(properties)
    except TypeError:  # an integer that no row can hold
        encoded = orjson.dumps({name: _rounded(value) for name, value in properties.items()})
    held: OpenMap = orjson.loads(encoded)
    return held


def _rounded(value: JsonValue) -> JsonValue:
    match value:
        case bool():
            return value
        case int() if value.bit_length() > INTEGER_BITS_HELD:
            return float(value) if value.bit_length() < FLOAT_BITS_MAX else None
        case list():
            return [_rounded(item) for item in value]
        case dict():
            return {name: _rounded(item) for name, item in value.items()}
        case _:
            return value


def _timed(record_id: RecordId, place: bytes, row: Row) -> TimedSignal:
    _, _, at, key = place.decode().split("/")
    return TimedSignal(
        at=int(at),
        key=SignalKey(key),
        record_id=record_id,
        source=row["source"],
        revision=row["revision"],
        name=row["name"],
        kind=row["kind"],
        message_id=row["message_id"],
        properties=row["properties"],
    )
