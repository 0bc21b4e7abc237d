"""Read model: how people wish to be spoken to, and which households they are of.

Table `preferences`: record id -> {preferences: {"channel/topic": {frequency, effective_at,
event_id}}}, of each the newest word. Tables `households`: record id -> {household id: source}, and
`household_members`: household id/record id -> {}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from domain.event import Event, Recorded
from domain.ids import RecordId
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
    record_id = event.stream.key
    match event.body:
        case PreferencesSet() as body:
            _set(tables, event, body)
        case HouseholdLinked(household_id=household, source=source):
            row = tables.get(HOUSEHOLDS, record_id.encode()) or {}
            row.setdefault(household, source)
            tables.put(HOUSEHOLDS, record_id.encode(), row)
            tables.put(MEMBERS, f"{household}/{record_id}".encode(), {})
        case HouseholdUnlinked(household_id=household):
            row = tables.get(HOUSEHOLDS, record_id.encode()) or {}
            row.pop(household, None)
            tables.put(HOUSEHOLDS, record_id.encode(), row)
            tables.delete(MEMBERS, f"{household}/{record_id}".encode())
        case _:
            pass


def forget(tables: Tables, record_id: RecordId) -> None:
    """Leave nothing of a record, also where its households list who is of them."""
    for household in households(tables, record_id):
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


def households(tables: ReadTables, record_id: RecordId) -> dict[str, str]:
    """Read the households of a record, each with the source that said so."""
    return dict(tables.get(HOUSEHOLDS, record_id.encode()) or {})


def household_members(tables: ReadTables, household_id: str) -> Iterator[RecordId]:
    """Yield the records of a household."""
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
