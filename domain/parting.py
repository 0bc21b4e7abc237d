"""How merges are undone (R5, R6): edges are removed, and what they held together parts.

The event stands on every record of the customer, so that nothing decided before it can be stored
after it (R7). Between the two records of a removed edge a separation stays. An act of consent that
closes binds every record that it stands on; any other goes with the record that it was said to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from domain.commands import UndoMerge, UnmergeRecord
from domain.consent import ConsentAct
from domain.consequences import consequences_of_parting
from domain.customer import Customer
from domain.decision import Change, Decision
from domain.errors import NotFound, Refused
from domain.identity import Edge, Separation, pairs_of
from domain.identity_events import CustomersParted
from domain.ids import SEPARATIONS_PER_CUSTOMER_MAX, RecordId, record_stream
from domain.record import Record
from domain.rules import Rules


@dataclass(frozen=True, slots=True)
class _Part:
    """One side: its records, the oldest first, and what holds them together or apart."""

    members: tuple[RecordId, ...]
    edges: tuple[Edge, ...]
    separations: tuple[Separation, ...]
    foreign_acts: Mapping[RecordId, tuple[str, ...]]

    @property
    def root(self) -> RecordId:
        return self.members[0]


def undo(
    rules: Rules,
    customer: Customer,
    command: UndoMerge | UnmergeRecord,
    *,
    address: RecordId,
    now: datetime,
) -> Decision:
    """Remove the edges that a command names, and part what they held together."""
    removed = _named_edges(customer, command)
    parts = _parts(customer, removed)
    changes = _changes(customer, removed, parts, command) if not command.dry_run else ()
    after = [Customer(_records_after(customer, part)) for part in parts]
    return Decision(
        customer_id=next(part.root for part in parts if address in part.members),
        changes=tuple(changes),
        consequences=consequences_of_parting(rules, customer, after, now=now),
    )


def components(records: Iterable[RecordId], edges: Iterable[Edge]) -> list[tuple[RecordId, ...]]:
    """Give the components of a forest, each with its oldest record first, in order of roots."""
    neighbours: defaultdict[RecordId, list[RecordId]] = defaultdict(list)
    for edge in edges:
        neighbours[RecordId(edge.older)].append(RecordId(edge.newer))
        neighbours[RecordId(edge.newer)].append(RecordId(edge.older))
    found: list[tuple[RecordId, ...]] = []
    seen: set[RecordId] = set()
    for record_id in sorted(records):
        if record_id in seen:
            continue
        component, pending = {record_id}, [record_id]
        while pending:
            fresh = [n for n in neighbours[pending.pop()] if n not in component]
            component.update(fresh)
            pending += fresh
        seen |= component
        found.append(tuple(sorted(component)))
    return found


def _named_edges(customer: Customer, command: UndoMerge | UnmergeRecord) -> tuple[Edge, ...]:
    match command:
        case UndoMerge(merge_id=merge_id):
            named = tuple(edge for edge in customer.edges if edge.merge_id == merge_id)
            if not named:
                raise NotFound("UNKNOWN_MERGE", "no live merge of this customer has this id")
        case UnmergeRecord(record_id=record):
            named = tuple(edge for edge in customer.edges if record in (edge.older, edge.newer))
            if not named:
                raise Refused("NOT_MERGED", "no live merge joins this record to another")
    return named


def _parts(customer: Customer, removed: Sequence[Edge]) -> list[_Part]:
    live = [edge for edge in customer.edges if edge not in removed]
    separations = _separations(customer, removed)
    homes = _homes(customer.records)
    parts = []
    for members in components(customer.records, live):
        inside = set(members)
        own = tuple(_seen_from(inside, s) for s in separations if {s.one, s.other} & inside)
        if len(own) > SEPARATIONS_PER_CUSTOMER_MAX:
            raise Refused("TOO_MANY_SEPARATIONS", "too many undos have parted this customer")
        acts = {m: _foreign(customer.records[m].acts, homes, inside) for m in members}
        edges = tuple(edge for edge in live if edge.older in inside)
        parts.append(_Part(members, edges, own, acts))
    return parts


def _separations(customer: Customer, removed: Sequence[Edge]) -> tuple[Separation, ...]:
    """Take the removed edges off what they stood over, and part the records that they joined."""
    gone = {edge.merge_id for edge in removed}
    pairs = pairs_of(customer.separations)
    for place, separation in pairs.items():
        lifted_by = tuple(m for m in separation.lifted_by if m not in gone)
        pairs[place] = separation.model_copy(update={"lifted_by": lifted_by})
    for edge in removed:
        pairs[edge.older, edge.newer] = Separation(one=edge.older, other=edge.newer)
    return tuple(pairs[place] for place in sorted(pairs))


def _seen_from(inside: set[RecordId], separation: Separation) -> Separation:
    """Give a separation as one side keeps it: what held both its records together is gone."""
    if {separation.one, separation.other} <= inside:
        return separation
    return separation.model_copy(update={"lifted_by": ()})


def _homes(records: Mapping[RecordId, Record]) -> dict[str, RecordId]:
    """Say to which record each act was said: its copy there was stored first."""
    first: dict[str, tuple[int, RecordId]] = {}
    for record in records.values():
        for act in record.acts:
            place = (act.revision, record.id)
            first[act.act_id] = min(first.get(act.act_id, place), place)
    return {act_id: record_id for act_id, (_, record_id) in first.items()}


def _foreign(
    acts: Iterable[ConsentAct], homes: Mapping[str, RecordId], inside: set[RecordId]
) -> tuple[str, ...]:
    return tuple(
        act.act_id for act in acts if not act.is_closing and homes[act.act_id] not in inside
    )


def _changes(
    customer: Customer,
    removed: tuple[Edge, ...],
    parts: Sequence[_Part],
    command: UndoMerge | UnmergeRecord,
) -> list[Change]:
    roots = tuple(part.root for part in parts)
    changes = []
    for part in parts:
        for member in part.members:
            body = CustomersParted(
                customer=customer.root,
                root=part.root,
                removed=removed,
                foreign_acts=part.foreign_acts[member],
            )
            if member == part.root:
                whole = {
                    "roots": roots,
                    "component": part.members,
                    "live_edges": part.edges,
                    "separations": part.separations,
                }
                body = body.model_copy(update=whole)
            changes.append(Change(record_stream(member), body, command.issued_at))
    return sorted(changes, key=lambda change: change.stream.key)


def _records_after(customer: Customer, part: _Part) -> dict[RecordId, Record]:
    """Give the records of a side as the events will leave them, as far as consent is concerned."""
    after = {}
    for member in part.members:
        record = customer.records[member]
        foreign = part.foreign_acts[member]
        acts = tuple(act for act in record.acts if act.act_id not in foreign)
        after[member] = replace(record, acts=acts, edges=part.edges)
    return after
