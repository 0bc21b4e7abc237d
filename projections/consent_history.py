"""Read model: every transition of consent with its details, as the log has it for each record.

Table `consent_history`: record id/revision/place in its event (16 and 4 hex digits) -> {act_id,
event_id, purpose, state, happened_at, recorded_at, ...; personal: {method, evidence}}. What an act
leaves open is judged from `consents.py`; here is what was said, for the person and for auditors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from domain.consent import ConsentState
from domain.consent_events import ChoicesRecorded, ConsentChanged, counted_from, told_in
from domain.event import Event, Recorded
from domain.identity_events import CustomersParted
from domain.ids import OpenMap, RecordId
from domain.transitions import MAY_ACT, ActedBy
from projections.instants import instant, instant_text
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables

CONSENT_HISTORY = "consent_history"
TABLES = (CONSENT_HISTORY,)
HEARS = (CustomersParted, ConsentChanged, ChoicesRecorded)
SEALED = {CONSENT_HISTORY: Sealed({"personal": {"method": None, "evidence": {}}}, owned_by_key)}


@dataclass(frozen=True, slots=True)
class ConsentTransition:
    """One act with its details; `effective_at` is when it counts from.

    It stands on each record that the customer had; `event_ids` names all of its events. `place` is
    its place among the acts of its event.
    """

    record_id: RecordId
    revision: int
    place: int
    act_id: str
    event_ids: frozenset[str]
    event_id: str
    purpose: str
    state: ConsentState
    acted_by: ActedBy
    happened_at: datetime
    recorded_at: datetime
    effective_at: datetime
    valid_until: datetime | None
    notice_version: str | None
    notice_language: str | None
    jurisdiction: str | None
    source: str | None
    is_imported: bool
    is_day_precise: bool
    method: str | None
    evidence: OpenMap


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    if isinstance(event.body, CustomersParted):
        _part(tables, event.stream.key, event.body)
    for place, (body, happened_at) in enumerate(told_in(event)):
        key = f"{event.stream.key}/{event.revision:016x}/{place:04x}"
        tables.put(CONSENT_HISTORY, key.encode(), _row(event, body, happened_at))


def _row(event: Recorded[Event], body: ConsentChanged, happened_at: datetime) -> Row:
    acted_by = body.acted_by or MAY_ACT[body.state][0]
    effective_at = counted_from(happened_at, event.recorded_at, body=body)
    return {
        "act_id": body.act_id,
        "event_id": event.event_id,
        "purpose": body.purpose,
        "state": body.state.value,
        "acted_by": acted_by.value,
        "happened_at": instant_text(happened_at),
        "recorded_at": instant_text(event.recorded_at),
        "effective_at": instant_text(effective_at),
        "valid_until": instant_text(body.valid_until) if body.valid_until else None,
        "notice_version": body.notice_version,
        "notice_language": body.notice_language,
        "jurisdiction": body.jurisdiction,
        "source": body.source,
        "is_imported": body.is_imported,
        "is_day_precise": body.is_day_precise,
        "personal": {"method": body.method, "evidence": body.evidence},
    }


def _part(tables: Tables, record_id: str, parted: CustomersParted) -> None:
    """Take away the acts that an undo left with another record: they were never this person's."""
    if not parted.foreign_acts:
        return
    held = list(tables.scan(CONSENT_HISTORY, f"{record_id}/".encode()))
    for key, row in held:
        if row["act_id"] in parted.foreign_acts:
            tables.delete(CONSENT_HISTORY, key)


def forget(tables: Tables, record_id: RecordId) -> None:
    """Leave nothing of a record."""
    for key, _ in list(tables.scan(CONSENT_HISTORY, f"{record_id}/".encode())):
        tables.delete(CONSENT_HISTORY, key)


def consent_history(
    tables: ReadTables, members: Iterable[RecordId]
) -> tuple[ConsentTransition, ...]:
    """Combine the transitions of records, the oldest first; an act on several counts once."""
    found: dict[tuple[object, ...], ConsentTransition] = {}
    for member in members:
        for transition in _transitions(tables, member):
            told = (transition.state, transition.effective_at)  # a caller may give an id twice
            key = (transition.act_id, transition.purpose, *told)
            known = found.get(key)
            first, second = transition, known or transition
            if second.revision < first.revision:
                first, second = second, first
            found[key] = replace(first, event_ids=first.event_ids | second.event_ids)
    return tuple(sorted(found.values(), key=lambda told: (told.revision, told.place)))


def _transitions(tables: ReadTables, record_id: RecordId) -> Iterator[ConsentTransition]:
    for key, row in tables.scan(CONSENT_HISTORY, f"{record_id}/".encode()):
        valid_until = row["valid_until"]
        _, revision, place = key.decode().rsplit("/", 2)
        yield ConsentTransition(
            record_id=record_id,
            revision=int(revision, 16),
            place=int(place, 16),
            act_id=row["act_id"],
            event_ids=frozenset({row["event_id"]}),
            event_id=row["event_id"],
            purpose=row["purpose"],
            state=ConsentState(row["state"]),
            acted_by=ActedBy(row["acted_by"]),
            happened_at=instant(row["happened_at"]),
            recorded_at=instant(row["recorded_at"]),
            effective_at=instant(row["effective_at"]),
            valid_until=instant(valid_until) if valid_until else None,
            notice_version=row["notice_version"],
            notice_language=row["notice_language"],
            jurisdiction=row["jurisdiction"],
            source=row["source"],
            is_imported=row["is_imported"],
            is_day_precise=row["is_day_precise"],
            method=row["personal"]["method"],
            evidence=row["personal"]["evidence"],
        )
