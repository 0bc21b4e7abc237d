"""Read model: the identifiers and traits of each record, each with the source that said it.

Table `profiles`: record id -> {identifiers: {key: {namespace, value, sources}},
traits: {trait: {source: {value, effective_at, event_id}}}}. Of each source the newest word stands,
by effective time and event id; which source wins is decided when a customer is read. What holds for
a while only is in `contexts.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from pydantic import JsonValue

from domain.event import Event, Recorded
from domain.identity_events import IdentifiersLinked, IdentifiersUnlinked
from domain.ids import EventId, IdentifierKey, RecordId
from domain.signal_events import TraitsSet
from projections.instants import instant, instant_text
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables

PROFILES = "profiles"
TABLES = (PROFILES,)
HEARS = (IdentifiersLinked, IdentifiersUnlinked, TraitsSet)
SEALED = {PROFILES: Sealed({"identifiers": {}, "traits": {}}, owned_by_key)}


@dataclass(frozen=True, slots=True)
class KnownIdentifier:
    """An identifier that a record holds; no sources: it came with consent."""

    record_id: RecordId
    namespace: str
    value: str
    key: IdentifierKey
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TraitClaim:
    """What a source last said a trait is, on one record."""

    record_id: RecordId
    trait: str
    source: str
    value: JsonValue
    effective_at: datetime
    event_id: EventId


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    if isinstance(event.body, IdentifiersLinked):
        _link(tables, event.stream.key, event.body)
    elif isinstance(event.body, IdentifiersUnlinked):
        _unlink(tables, event.stream.key, event.body)
    elif isinstance(event.body, TraitsSet) and event.body.expires_at is None:
        _set_traits(tables, event, event.body)


def forget(tables: Tables, record_id: RecordId) -> None:
    """Leave nothing of a record."""
    tables.delete(PROFILES, record_id.encode())


def identifiers(tables: ReadTables, record_id: RecordId) -> Iterator[KnownIdentifier]:
    """Yield the identifiers of a record."""
    for key, held in _profile(tables, record_id)["identifiers"].items():
        yield KnownIdentifier(
            record_id, held["namespace"], held["value"], IdentifierKey(key), tuple(held["sources"])
        )


def claims(tables: ReadTables, record_id: RecordId) -> Iterator[TraitClaim]:
    """Yield what each source said of each trait of a record."""
    for trait, by_source in _profile(tables, record_id)["traits"].items():
        for source, said in by_source.items():
            effective_at = instant(said["effective_at"])
            event_id = EventId(said["event_id"])
            yield TraitClaim(record_id, trait, source, said["value"], effective_at, event_id)


def words(tables: ReadTables, record_id: RecordId) -> Mapping[str, Mapping[str, Row]]:
    """Read what was said of a record: trait -> source -> {value, effective_at, event_id}."""
    said: Mapping[str, Mapping[str, Row]] = _profile(tables, record_id)["traits"]
    return said


def namespaces(tables: ReadTables, record_id: RecordId) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the namespace and the sources of each identifier of a record."""
    for held in _profile(tables, record_id)["identifiers"].values():
        yield held["namespace"], tuple(held["sources"])


def _profile(tables: ReadTables, record_id: str) -> Row:
    return tables.get(PROFILES, record_id.encode()) or {"identifiers": {}, "traits": {}}


def _link(tables: Tables, record_id: str, linked: IdentifiersLinked) -> None:
    row = _profile(tables, record_id)
    for identifier in linked.identifiers:
        held = row["identifiers"].setdefault(
            identifier.key,
            {"namespace": identifier.namespace, "value": identifier.value, "sources": []},
        )
        if linked.source is not None and linked.source not in held["sources"]:
            held["sources"] = sorted([*held["sources"], linked.source])
    tables.put(PROFILES, record_id.encode(), row)


def _unlink(tables: Tables, record_id: str, unlinked: IdentifiersUnlinked) -> None:
    row = _profile(tables, record_id)
    for key in unlinked.keys:
        row["identifiers"].pop(key, None)
    tables.put(PROFILES, record_id.encode(), row)


def _set_traits(tables: Tables, event: Recorded[Event], said: TraitsSet) -> None:
    orjson.dumps(said.traits)  # a value that no row can hold fails here, on its own event
    row = _profile(tables, event.stream.key)
    effective_at = instant_text(event.effective_at)
    for trait, value in said.traits.items():
        by_source = row["traits"].setdefault(trait, {})
        known = by_source.get(said.source)
        if known and (known["effective_at"], known["event_id"]) >= (effective_at, event.event_id):
            continue
        by_source[said.source] = {
            "value": value,
            "effective_at": effective_at,
            "event_id": event.event_id,
        }
    tables.put(PROFILES, event.stream.key.encode(), row)
