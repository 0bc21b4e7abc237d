"""Read model: the acts of consent that stand on each record. What they leave open is not kept.

Table `consents`: record id -> {acts: {act id: the fields of `domain.consent.ConsentAct`}}. Whether
a purpose is open is `domain.consent.standing` over the acts of all records of the customer.
"""

from __future__ import annotations

from domain.consent import ConsentAct, ConsentState
from domain.consent_events import ChoicesRecorded, ConsentChanged, acts_of
from domain.event import Event, Recorded
from domain.identity_events import CustomersParted
from domain.ids import EventId, RecordId
from projections.instants import instant, instant_text
from projections.rows import Row
from projections.tables import ReadTables, Tables

CONSENTS = "consents"
TABLES = (CONSENTS,)
HEARS = (CustomersParted, ConsentChanged, ChoicesRecorded)


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event; an act that a record holds already changes nothing."""
    if isinstance(event.body, CustomersParted):
        _part(tables, event.stream.key, event.body)
    told = acts_of(event)
    if not told:
        return
    key = event.stream.key.encode()
    row = tables.get(CONSENTS, key) or {"acts": {}}
    fresh = {act.act_id: _fields(act) for act in told if act.act_id not in row["acts"]}
    if fresh:
        row["acts"] |= fresh
        tables.put(CONSENTS, key, row)


def _fields(act: ConsentAct) -> Row:
    return {
        "purpose": act.purpose,
        "state": act.state.value,
        "effective_at": instant_text(act.effective_at),
        "revision": act.revision,
        "event_id": act.event_id,
        "notice_version": act.notice_version,
        "valid_until": instant_text(act.valid_until) if act.valid_until else None,
        "is_imported": act.is_imported,
        "source": act.source,
    }


def _part(tables: Tables, record_id: str, parted: CustomersParted) -> None:
    """Take away the acts that an undo left with another record."""
    row = tables.get(CONSENTS, record_id.encode())
    if row is None or not row["acts"].keys() & set(parted.foreign_acts):
        return
    row["acts"] = {k: act for k, act in row["acts"].items() if k not in parted.foreign_acts}
    tables.put(CONSENTS, record_id.encode(), row)


def forget(tables: Tables, record_id: RecordId) -> None:
    """Leave nothing of a record."""
    tables.delete(CONSENTS, record_id.encode())


def acts(tables: ReadTables, record_id: RecordId) -> tuple[ConsentAct, ...]:
    """Read the acts that stand on a record."""
    row = tables.get(CONSENTS, record_id.encode()) or {"acts": {}}
    return tuple(
        ConsentAct(
            act_id=act_id,
            purpose=act["purpose"],
            state=ConsentState(act["state"]),
            effective_at=instant(act["effective_at"]),
            revision=act["revision"],
            event_id=EventId(act["event_id"]),
            notice_version=act["notice_version"],
            valid_until=instant(act["valid_until"]) if act["valid_until"] else None,
            is_imported=act["is_imported"],
            source=act["source"],
        )
        for act_id, act in row["acts"].items()
    )
