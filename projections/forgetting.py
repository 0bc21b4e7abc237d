"""What the read side does when somebody is erased: every row goes but one, made of ids alone (R14).

Comes before the read models, each of which forgets its own. Afterwards the rows are as if nothing
of the person had ever opened, which is how a later fold, without the keys, finds the events: so
both have the same digest (R17).
"""

from __future__ import annotations

from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.ids import RecordId, StreamKind
from projections import (
    consent_history,
    consents,
    contexts,
    counts,
    customers,
    parking,
    preferences,
    profile,
    tallies,
    timeline,
)
from projections.tables import Tables

HEARS = (ErasureRequested,)


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    if event.stream.kind is not StreamKind.RECORD or not isinstance(event.body, ErasureRequested):
        return
    record_id = RecordId(event.stream.key)
    known = tables.get(customers.CUSTOMERS, event.stream.key.encode())
    waited = parking.release(tables, record_id)
    merges = len(known["edges"]) if known and "edges" in known else 0
    counts.forget(tables, record_id, is_counted=known is not None, merges=merges, waited=waited)
    tallies.forget(tables, record_id, timeline.forget(tables, record_id))
    for model in (profile, contexts, preferences, consents, consent_history):
        model.forget(tables, record_id)
