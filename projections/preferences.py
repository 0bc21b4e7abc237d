"""Read model: how people wish to be spoken to, and which households they are of.

Table `preferences`: record id -> {preferences: {"channel/topic": {frequency, effective_at,
event_id}}}, of each the newest word. Tables `households`: record id -> {household id: {source or
nothing: {effective_at, event_id}}}, of each the newest word, without a source that it is over; and
`household_members`: household id/record id -> {}, of records by whose own words it is so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from domain.event import Event, Recorded
from domain.households import Told, Word, Words, combined, hear, linked_by
from domain.ids import EventId, RecordId
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, PreferencesSet
from projections.instants import instant, instant_text
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables

PREFERENCES = "preferences"
HOUSEHOLDS = "households"
MEMBERS = "household_members"
TABLES = (PREFERENCES, HOUSEHOLDS, MEMBERS)
HEARS = (PreferencesSet, HouseholdLinked, HouseholdUnlinked)
SEALED = {PREFERENCES: Sealed({"preferences": {}}, owned_by_key)}


@dataclass(frozen=True, slots=True)
class StatedPreference:
    """How often one topic may come over one channel, and since when."""

    channel: str
    topic: str
    frequency: str
    effective_at: datetime
    event_id: str


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    match event.body:
        case PreferencesSet() as body:
            _set(tables, event, body)
        case HouseholdLinked() | HouseholdUnlinked() as body:
            _hear_of_household(tables, event, body)
        case _:
            pass


def forget(tables: Tables, record_id: RecordId) -> None:
    """Leave nothing of a record, also where its households list who is of them."""
    for household in tables.get(HOUSEHOLDS, record_id.encode()) or {}:
        tables.delete(MEMBERS, f"{household}/{record_id}".encode())
    for table in (HOUSEHOLDS, PREFERENCES):
        tables.delete(table, record_id.encode())


def preferences(tables: ReadTables, members: Iterable[RecordId]) -> tuple[StatedPreference, ...]:
    """Combine the preferences of records: of each channel and topic the newest, in order."""
    newest: dict[tuple[str, str], StatedPreference] = {}
    for member in members:
        for stated in _stated(tables, member):
            key = (stated.channel, stated.topic)
            known = newest.get(key)
            if known is None or _order(known) < _order(stated):
                newest[key] = stated
    return tuple(newest[key] for key in sorted(newest))


def households(tables: ReadTables, members: Iterable[RecordId]) -> dict[str, tuple[str, ...]]:
    """Combine what was said of households to records: of which they are, and by which sources."""
    told: defaultdict[str, list[Words]] = defaultdict(list)
    for member in members:
        for household, row in (tables.get(HOUSEHOLDS, member.encode()) or {}).items():
            told[household].append(_words(row))
    sources = {household: linked_by(combined(words)) for household, words in told.items()}
    return {household: by for household, by in sources.items() if by}


def household_members(tables: ReadTables, household_id: str) -> Iterator[RecordId]:
    """Yield the records of a household; their customers may be told, elsewhere, that it is over."""
    for key, _row in tables.scan(MEMBERS, f"{household_id}/".encode()):
        yield RecordId(key.decode().rpartition("/")[2])


def _set(tables: Tables, event: Recorded[Event], body: PreferencesSet) -> None:
    key = event.stream.key.encode()
    row = _row(tables, key)
    effective_at = instant_text(event.effective_at)
    for said in body.preferences:
        known = row.get(f"{said.channel}/{said.topic}")
        if known and (known["effective_at"], known["event_id"]) > (effective_at, event.event_id):
            continue
        row[f"{said.channel}/{said.topic}"] = {
            "frequency": said.frequency,
            "effective_at": effective_at,
            "event_id": event.event_id,
        }
    tables.put(PREFERENCES, key, {"preferences": row})


def _hear_of_household(tables: Tables, event: Recorded[Event], body: Told) -> None:
    record_id, household = event.stream.key, body.household_id
    row = tables.get(HOUSEHOLDS, record_id.encode()) or {}
    words = hear(_words(row.get(household, {})), event, body)
    row[household] = {
        by: {"effective_at": instant_text(word.effective_at), "event_id": word.event_id}
        for by, word in words.items()
    }
    tables.put(HOUSEHOLDS, record_id.encode(), row)
    member = f"{household}/{record_id}".encode()
    if linked_by(words):
        tables.put(MEMBERS, member, {})
    else:
        tables.delete(MEMBERS, member)


def _words(row: Row) -> Words:
    return {
        by: Word(instant(said["effective_at"]), EventId(said["event_id"]))
        for by, said in row.items()
    }


def _stated(tables: ReadTables, record_id: RecordId) -> Iterator[StatedPreference]:
    for key, said in _row(tables, record_id.encode()).items():
        channel, _, topic = key.partition("/")
        effective_at = instant(said["effective_at"])
        yield StatedPreference(channel, topic, said["frequency"], effective_at, said["event_id"])


def _row(tables: ReadTables, key: bytes) -> Row:
    row: Row = (tables.get(PREFERENCES, key) or {"preferences": {}})["preferences"]
    return row


def _order(stated: StatedPreference) -> tuple[datetime, str]:
    return (stated.effective_at, stated.event_id)
