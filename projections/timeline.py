"""Read model: the signals of each record in the order in which they happened.

Table `timeline`: record id/time/signal key -> {source, revision, name, kind, message_id,
properties}, the last four sealed. Times are in microseconds since the year 1, so a window is a
range of keys, and a late signal stands where it happened. A record holds a signal once (R8); of its
copies on several records of a customer the first counts, as in `tallies.py`, which is told later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson
from pydantic import JsonValue

from domain.event import Event, Recorded
from domain.ids import OpenMap, RecordId
from domain.signal_events import SignalsRecorded
from domain.signals import Signal, signal_key
from projections import tallies
from projections.instants import microseconds
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables

TIMELINE = "timeline"
TABLES = (TIMELINE,)
_ERASED = {"name": "", "kind": "", "message_id": "", "properties": dict[str, object]()}
SEALED = {TIMELINE: Sealed(_ERASED, owned_by_key)}

INTEGER_BITS_HELD = 63
"""Of an integer in a row; a larger one is held as the nearest float, if there is one."""

FLOAT_BITS_MAX = 1_024


@dataclass(frozen=True, slots=True)
class TimedSignal:
    """A copy of a signal; `at` in microseconds since the year 1."""

    at: int
    key: str
    record_id: RecordId
    source: str
    revision: int
    name: str
    kind: str
    message_id: str
    properties: OpenMap


def signal_time(event: Recorded[Event], signal: Signal) -> int:
    """Say when a signal happened; a time in the future counts as of when it was recorded."""
    return microseconds(min(signal.happened_at, event.recorded_at))


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event; a signal that the record holds already changes nothing."""
    body = event.body
    if not isinstance(body, SignalsRecorded):
        return
    record_id, noted = event.stream.key, set[str]()
    for signal in body.signals:
        key = signal_key(body.source, signal.message_id)
        if key in noted or tallies.holds(tables, record_id, key):
            continue
        noted.add(key)
        row = {
            "source": body.source,
            "revision": event.revision,
            "name": signal.name,
            "kind": signal.kind,
            "message_id": signal.message_id,
            "properties": _held(signal.properties),
        }
        tables.put(TIMELINE, _place(event, signal, key), row)


def forget(tables: Tables, record_id: RecordId) -> list[str]:
    """Leave nothing of a record; give the keys of the signals that it held."""
    places = [place for place, _ in tables.scan(TIMELINE, f"{record_id}/".encode())]
    for place in places:
        tables.delete(TIMELINE, place)
    return [place.decode().rpartition("/")[2] for place in places]


def put_by(tables: ReadTables, event: Recorded[Event]) -> Iterator[TimedSignal]:
    """Yield the signals that an event put on its record when it was folded, just now."""
    body = event.body
    if not isinstance(body, SignalsRecorded):
        return
    places = {_place(event, s, signal_key(body.source, s.message_id)) for s in body.signals}
    for place in places:
        row = tables.get(TIMELINE, place)
        if row is not None and row["revision"] == event.revision:
            yield _timed(RecordId(event.stream.key), place, row)


def signals(tables: ReadTables, record_ids: Iterable[RecordId]) -> list[TimedSignal]:
    """List the signals of the customer that these records form, each once, in order of time."""
    return first_copies(copy for record_id in record_ids for copy in copies(tables, record_id))


def copies(tables: ReadTables, record_id: RecordId) -> Iterator[TimedSignal]:
    """Yield the signals of a record in order of time."""
    for place, row in tables.scan(TIMELINE, f"{record_id}/".encode()):
        yield _timed(record_id, place, row)


def first_copies(found: Iterable[TimedSignal]) -> list[TimedSignal]:
    """Keep the first copy of each signal, in order of time."""
    counted: dict[str, TimedSignal] = {}
    for copy in found:
        known = counted.get(copy.key)
        if known is None or copy.revision < known.revision:
            counted[copy.key] = copy
    return sorted(counted.values(), key=lambda signal: (signal.at, signal.key))


def _place(event: Recorded[Event], signal: Signal, key: str) -> bytes:
    return f"{event.stream.key}/{signal_time(event, signal):018d}/{key}".encode()


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
    _, at, key = place.decode().split("/")
    return TimedSignal(
        at=int(at),
        key=key,
        record_id=record_id,
        source=row["source"],
        revision=row["revision"],
        name=row["name"],
        kind=row["kind"],
        message_id=row["message_id"],
        properties=row["properties"],
    )
