"""The slow, obvious answer: customers from the bare list of events, by scanning it again each time.

Imports neither `projections` nor `replay`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction

from domain.consent import ConsentAct, LawfulBasis, standing
from domain.consent_events import acts_of
from domain.event import Event, Recorded
from domain.identity import Edge
from domain.identity_events import CustomersMerged, CustomersParted, IdentifiersLinked
from domain.ids import MergeId, RecordId, StreamKind
from domain.preference_events import HouseholdLinked, HouseholdUnlinked
from domain.signal_events import SignalsRecorded, TraitsSet

Events = Sequence[Recorded[Event]]
Tallies = dict[tuple[str, str], tuple[int, dict[str, tuple[int, Fraction]]]]


def customers(events: Events) -> list[set[RecordId]]:
    """The components of the records over all edges that events name and no undo took away."""
    found = [
        {RecordId(key)}
        for key in {e.stream.key for e in events if e.stream.kind is StreamKind.RECORD}
    ]
    edges: dict[MergeId, Edge] = {}
    for event in events:
        if isinstance(event.body, CustomersMerged):
            edges |= {edge.merge_id: edge for edge in event.body.edges}
        elif isinstance(event.body, CustomersParted):
            edges = {k: e for k, e in edges.items() if e not in event.body.removed}
    for edge in edges.values():
        ends = [component for component in found if component & {edge.older, edge.newer}]
        found = [component for component in found if component not in ends]
        found.append(set().union(*ends))
    return found


def tallies(events: Events, members: set[RecordId], sources: set[str]) -> Tallies:
    seen: set[tuple[str, str]] = set()
    counted: Tallies = {}
    for event in events:
        if event.stream.key not in members or not isinstance(event.body, SignalsRecorded):
            continue
        for signal in event.body.signals:
            identity = (event.body.source, signal.message_id)
            if identity in seen:
                continue
            seen.add(identity)
            if event.body.source not in sources:
                continue
            count, sums = counted.get((event.body.source, signal.name), (0, {}))
            for name, value in signal.properties.items():
                if isinstance(value, int | float):
                    known, total = sums.get(name, (0, Fraction(0)))
                    sums = {**sums, name: (known + 1, total + Fraction(repr(value)))}
            counted[event.body.source, signal.name] = (count + 1, sums)
    return counted


def traits(events: Events, members: set[RecordId], priorities: dict[str, int]) -> dict[str, object]:
    """The winning value of each trait, among the sources that have a priority.

    What was said to hold for a while only is no trait.
    """
    claims: dict[str, list[tuple[int, datetime, str, object]]] = {}
    for event in events:
        if event.stream.key not in members or not isinstance(event.body, TraitsSet):
            continue
        if event.body.expires_at is None:
            for name, value in event.body.traits.items():
                if event.body.source in priorities:
                    rank = (priorities[event.body.source], event.effective_at, event.event_id)
                    claims.setdefault(name, []).append((*rank, value))
    return {name: max(said, key=lambda claim: claim[:3])[3] for name, said in claims.items()}


def identifiers(events: Events, members: set[RecordId], sources: set[str]) -> set[str]:
    return {
        identifier.value
        for event in events
        if event.stream.key in members and isinstance(event.body, IdentifiersLinked)
        if event.body.source in sources
        for identifier in event.body.identifiers
    }


def households(events: Events, members: set[RecordId], sources: set[str]) -> set[str]:
    """The households of a customer: what was said, oldest first, of which an end undoes all."""
    said_by: dict[str, set[str]] = {}
    for event in sorted(events, key=lambda event: (event.effective_at, event.event_id)):
        match event.body:
            case HouseholdLinked(household_id=household, source=source):
                if event.stream.key in members:
                    said_by.setdefault(household, set()).add(source)
            case HouseholdUnlinked(household_id=household):
                if event.stream.key in members:
                    said_by.pop(household, None)
            case _:
                pass
    return {household for household, by in said_by.items() if by & sources}


def is_open(
    events: Events,
    members: set[RecordId],
    purpose: str,
    basis: LawfulBasis,
    *,
    at: datetime | None = None,
    ancestors: tuple[str, ...] = (),
) -> bool:
    """Judge a purpose at a time; by default when the last of these events was recorded."""
    acts: dict[RecordId, list[ConsentAct]] = {member: [] for member in members}
    for event in events:
        if event.stream.key in members:
            acts[RecordId(event.stream.key)] += acts_of(event)
    now = at or max(e.recorded_at for e in events)
    return standing(purpose, basis, acts, at=now, ancestors=ancestors).is_open
