"""Everything that is known about one person, readable, with where each part of it came from.

For `koseki export --customer`: what a person may ask for. Folded from the customer's own streams,
for the purpose `audit`: nothing is left out, but who else is of a household, and what an undo left
with somebody else. Of somebody erased there is nothing to give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from domain.consent_events import ChoicesRecorded, ConsentChanged
from domain.event import Event, Recorded
from domain.households import Told, Words, hear, linked_by
from domain.identity_events import IdentifiersLinked
from domain.ids import RecordId, StreamKind
from domain.rules import AUDIT
from eventlog.codec import encode_json
from eventlog.port import Entry, LogReader
from eventlog.registry import wire_name
from projections.consent_history import ConsentTransition, consent_history
from projections.profile import TraitClaim
from projections.views import CustomerView, Trait
from replay.as_of import Prefix
from replay.customer import PastMembers, fold_members

Json = dict[str, Any]  # Any: JSON


async def export_person(log: LogReader, prefix: Prefix, record_id: RecordId) -> Json | None:
    """Give everything about the customer of a record; None for nobody.

    Raises `CustomerErased`, `CustomerParked` and `LogError`.
    """
    found = await fold_members(log, prefix, record_ids=[record_id])
    view = found.view(record_id, AUDIT)
    if view is None:
        return None
    acts = consent_history(found.tables, view.members)
    events = list(_own_events(found.entries, frozenset(view.members), acts))
    return {
        "workspace": log.workspace,
        "customer": view.customer_id,
        "records": list(view.members),
        "known_as_of": {
            "revision": prefix.revision,
            "time": prefix.clock.isoformat(),
        },
        **_facts(view, found, {event.event_id: event for event in events}),
        "consent_history": [{**asdict(act), "event_ids": sorted(act.event_ids)} for act in acts],
        "history": [_told(event) for event in events],
    }


def _own_events(
    entries: Iterable[Entry], members: frozenset[RecordId], acts: Iterable[ConsentTransition]
) -> Iterator[Recorded[Event]]:
    """Yield what records were told, but for acts of consent that an undo left with another one."""
    own = {(event_id, act.act_id) for act in acts for event_id in act.event_ids}
    for entry in entries:
        if entry.stream.kind is not StreamKind.RECORD or entry.stream.key not in members:
            continue
        match entry.event:
            case Recorded(body=ConsentChanged(act_id=act_id), event_id=event_id) as event:
                if (event_id, act_id) in own:
                    yield event
            case Recorded(body=ChoicesRecorded() as body, event_id=event_id) as event:
                kept = tuple(act for act in body.acts if (event_id, act.act_id) in own)
                if kept:
                    yield event._replace(body=body.model_copy(update={"acts": kept}))
            case Recorded() as event:
                yield event
            case None:
                pass


def _facts(view: CustomerView, found: PastMembers, events: Mapping[str, Recorded[Event]]) -> Json:
    """Give what is so of the person now; each with its source, when, and the event."""
    return {
        "identifiers": [
            {**asdict(known), "linked_by": _links(known.key, events.values())}
            for known in view.identifiers
        ],
        "traits": [_trait(trait, events) for trait in view.traits],
        "context": [_dated(asdict(claim), events) for claim in view.context],
        "preferences": [_dated(asdict(stated), events) for stated in view.preferences],
        "households": [
            {**asdict(household), "linked_by": _words(household.household_id, events)}
            for household in view.households
        ],
        "consents": [
            {
                "purpose": place.purpose.name,
                "basis": place.purpose.basis,
                "is_open": place.standing.is_open,
                "state": place.standing.state,
                "valid_until": place.standing.valid_until,
                "decided_by": place.standing.act and place.standing.act.act_id,
            }
            for place in view.consents
        ],
        "signals": [
            {
                "source": tally.source,
                "name": tally.name,
                "count": tally.count,
                "sums": {name: str(known.total) for name, known in tally.sums.items()},
            }
            for tally in view.tallies
        ],
        "segments": list(found.segments(view.customer_id)),
    }


def _links(key: str, events: Iterable[Recorded[Event]]) -> list[Json]:
    """Say which events linked an identifier: from which source, and when."""
    return [
        {"source": event.body.source, **_place(event)}
        for event in events
        if isinstance(event.body, IdentifiersLinked) and key in event.body.keys
    ]


def _words(household_id: str, events: Mapping[str, Recorded[Event]]) -> list[Json]:
    """Say by which word of each source the person is of a household, and since when."""
    words: Words = {}
    for event in events.values():
        body = event.body
        if isinstance(body, Told) and body.household_id == household_id:
            words = hear(words, event, body)
    return [{"source": by, **_place(events[words[by].event_id])} for by in linked_by(words)]


def _dated(fact: Json, events: Mapping[str, Recorded[Event]]) -> Json:
    """Add to a fact where its event stands in the log."""
    event = events.get(fact["event_id"])
    return fact if event is None else {**fact, **_place(event)}


def _place(event: Recorded[Event]) -> Json:
    return {
        "event_id": event.event_id,
        "revision": event.revision,
        "record_id": event.stream.key,
        "happened_at": event.happened_at,
        "recorded_at": event.recorded_at,
    }


def _trait(trait: Trait, events: Mapping[str, Recorded[Event]]) -> Json:
    winner, *losers = (_claim(claim, events) for claim in (trait.winner, *trait.losers))
    return {"name": trait.name, **winner, "other_words": losers}


def _claim(claim: TraitClaim, events: Mapping[str, Recorded[Event]]) -> Json:
    said = {"value": claim.value, "source": claim.source, "event_id": claim.event_id}
    return _dated(said, events)


def _told(event: Recorded[Event]) -> Json:
    """Give an event as it stands in the log, opened."""
    return {
        "type": wire_name(type(event.body)),
        **_place(event),
        "by": event.auth_id,
        "what": orjson.loads(encode_json(event.body.__dict__)),
    }
