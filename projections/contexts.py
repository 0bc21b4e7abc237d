"""Read model: fast context, apart from the slow facts: what is so of a person for a while.

Table `contexts`: record id -> {context: {key: {source: [{value, effective_at, event_id,
expires_at}]}}}, the newest word first, then the older ones that outlive it. It comes with traits
that name their end, and with the context of signals whose source declares how long it holds. What
has run out by the log's clock is not seen, and leaves the row with its next change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from pydantic import JsonValue

from domain.event import Event, Recorded
from domain.ids import RecordId
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import Signal
from projections.instants import instant, instant_text
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables

CONTEXTS = "contexts"
TABLES = (CONTEXTS,)
HEARS = (TraitsSet, SignalsRecorded)
SEALED = {CONTEXTS: Sealed({"context": {}}, owned_by_key)}
NO_CONTEXT = frozenset({"consent", "externalIds", "traits"})
"""Fields of a signal's context that say who somebody is or what they chose."""


@dataclass(frozen=True, slots=True)
class ContextClaim:
    """What a source said of a key, and until when it holds."""

    key: str
    source: str
    value: JsonValue
    effective_at: datetime
    event_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Said:
    values: Mapping[str, JsonValue]
    effective_at: datetime
    expires_at: datetime


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    match event.body:
        case TraitsSet(source=source, traits=traits, expires_at=datetime() as until):
            _change(tables, event, source, [_Said(traits, event.effective_at, until)])
        case SignalsRecorded(source=source, signals=signals, context_ttl_seconds=int(seconds)):
            said = [_of_signal(signal, event, timedelta(seconds=seconds)) for signal in signals]
            _change(tables, event, source, said)
        case _:
            pass


def forget(tables: Tables, record_id: RecordId) -> None:
    """Leave nothing of a record."""
    tables.delete(CONTEXTS, record_id.encode())


def contexts(tables: ReadTables, record_id: RecordId, *, at: datetime) -> Iterator[ContextClaim]:
    """Yield what holds of a record at a time."""
    for key, by_source in _context(tables, record_id.encode()).items():
        for source, words in by_source.items():
            for said in words:
                expires_at = instant(said["expires_at"])
                if at < expires_at:
                    effective_at = instant(said["effective_at"])
                    yield ContextClaim(
                        key, source, said["value"], effective_at, said["event_id"], expires_at
                    )


def _of_signal(signal: Signal, event: Recorded[Event], holds_for: timedelta) -> _Said:
    at = min(signal.happened_at, event.recorded_at)
    said = {key: value for key, value in signal.context.items() if key not in NO_CONTEXT}
    return _Said(said, at, at + holds_for)


def _change(tables: Tables, event: Recorded[Event], source: str, news: list[_Said]) -> None:
    row_key = event.stream.key.encode()
    context = _unexpired(_context(tables, row_key), instant_text(event.recorded_at))
    for said in news:
        _say(context, event.event_id, source, said)
    tables.put(CONTEXTS, row_key, {"context": context})


def _say(context: Row, event_id: str, source: str, said: _Said) -> None:
    orjson.dumps(said.values)  # a value that no row can hold fails here, on its own event
    effective_at, expires_at = instant_text(said.effective_at), instant_text(said.expires_at)
    for key, value in said.values.items():
        by_source = context.setdefault(key, {})
        word = {
            "value": value,
            "effective_at": effective_at,
            "event_id": event_id,
            "expires_at": expires_at,
        }
        by_source[source] = _ever_seen([word, *by_source.get(source, ())])


def _ever_seen(words: list[Row]) -> list[Row]:
    """Give the words that are or will be the newest that holds, the newest first.

    Of two from one event the first, which is the later one, counts.
    """
    kept: list[Row] = []
    for word in sorted(words, key=lambda w: (w["effective_at"], w["event_id"]), reverse=True):
        if not kept or word["expires_at"] > kept[-1]["expires_at"]:
            kept.append(word)
    return kept


def _context(tables: ReadTables, row_key: bytes) -> Row:
    context: Row = (tables.get(CONTEXTS, row_key) or {"context": {}})["context"]
    return context


def _unexpired(row: Row, now: str) -> Row:
    kept: Row = {}
    for key, by_source in row.items():
        for source, words in by_source.items():
            if lasting := [said for said in words if said["expires_at"] > now]:
                kept.setdefault(key, {})[source] = lasting
    return kept
