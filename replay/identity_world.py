"""Customers as they would be under other rules: the domain's own functions over records in memory.

Called by `identity.py`. Only identity is kept: no signals, no traits, no consent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from domain.commands import CustomerCommand, MergeCustomers, UndoMerge
from domain.customer import Customer
from domain.decision import Change
from domain.errors import DomainError
from domain.event import Event
from domain.identifier_histories import IdentifierHistories
from domain.identity import Edge, Identifier, Separation, Tombstone
from domain.identity_events import CustomersMerged, IdentifiersLinked
from domain.identity_rules import IdentityRules
from domain.ids import (
    CommandId,
    IdentifierKey,
    MergeId,
    RecordId,
    StreamKind,
)
from domain.joining import joining, merge_customers
from domain.parting import components, undo
from domain.record import Record, evolve, unborn
from domain.resolution import Resolution, resolve
from domain.rules import Rules
from replay.supposed import supposed

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing here depends on time."""


class World:
    """Records and their customers."""

    def __init__(self, identity: IdentityRules) -> None:
        self._rules = Rules(identity=identity)
        self._records: dict[RecordId, Record] = {}
        self._holders: dict[IdentifierKey, RecordId] = {}
        self._namespaces: dict[IdentifierKey, str] = {}
        self._tombstoned: dict[IdentifierKey, Tombstone] = {}
        self._met_in: defaultdict[MergeId | RecordId, set[str]] = defaultdict(set)

    def root_of(self, record_id: RecordId) -> RecordId:
        """Name the customer of a record."""
        return self._records[record_id].root

    def holder_of(self, key: IdentifierKey) -> RecordId | None:
        """Name the customer who holds an identifier."""
        holder = self._holders.get(key)
        return None if holder is None else self.root_of(holder)

    def met_by(
        self, identifiers: Iterable[Identifier], *, named: RecordId | None = None
    ) -> set[RecordId]:
        """Name all records of the customers who hold any of these identifiers, or are named."""
        keys = [item.key for item in identifiers if item.key not in self._tombstoned]
        met = [self._holders[key] for key in keys if key in self._holders]
        met += [] if named is None else [named]
        return {member for customer in self._customers(met) for member in customer.records}

    def met_in(self, root: RecordId) -> tuple[str, ...]:
        """Name the namespaces of the identifiers that brought a customer's records together."""
        record = self._records[root]
        brought: list[MergeId | RecordId] = [edge.merge_id for edge in record.edges]
        brought += record.component
        return tuple(sorted(set().union(*(self._met_in[name] for name in brought))))

    def tombstone(self, key: IdentifierKey, stone: Tombstone) -> None:
        """Let an identifier be of somebody erased."""
        self._tombstoned[key] = stone

    def readmit(self, key: IdentifierKey) -> None:
        """Let an identifier be used again, by whoever comes with it."""
        self._tombstoned.pop(key, None)
        self.release(key)

    def release(self, key: IdentifierKey) -> None:
        """Take an identifier from whoever holds it."""
        holder = self._holders.pop(key, None)
        if holder is not None:
            record = self._records[holder]
            kept = {k: item for k, item in record.identifiers.items() if k != key}
            self._records[holder] = replace(record, identifiers=kept)

    def resolve(
        self,
        identifiers: Iterable[Identifier],
        *,
        record_id: RecordId | None,
        new_record_id: RecordId,
        joined: Sequence[Edge],
        command_id: CommandId,
    ) -> RecordId | None:
        """Resolve identifiers that came together; give the record that what came would go to.

        `joined` are the merges that came of it.
        """
        came = tuple(identifiers)
        self._namespaces |= {item.key: item.namespace for item in came}
        named = CustomerCommand.model_construct(
            **_asked(command_id),
            record_id=record_id,
            new_record_id=new_record_id,
            identifiers=came,
            left_out=(),
        )
        met = [self._holders[item.key] for item in came if item.key in self._holders]
        held = {item.namespace for item in came if item.key in self._holders}
        customers = self._customers([*met, *([] if record_id is None else [record_id])])
        try:
            histories = IdentifierHistories(tombstoned=self._tombstoned)
            found = resolve(self._rules.identity, customers, named, histories=histories)
        except DomainError:
            return None  # nothing is left that names anybody
        found = self._as_joined(found, joined)
        self._store(joining(self._rules, found, named, source=None, at=_NEVER), command_id)
        if found.address not in self._records:
            return None
        if record_id is None and found.address != new_record_id and not found.edges:
            self._met_in[found.address] |= held
        return found.address

    def _as_joined(self, found: Resolution, joined: Sequence[Edge]) -> Resolution:
        """Join the same customers by the same records: which merge an undo names depends on it."""
        places: dict[RecordId, int] = {}
        for place, edge in enumerate(joined):
            for end in (edge.older, edge.newer):
                places.setdefault(self.root_of(RecordId(end)), place)
        if len(joined) != len(found.edges) or places.keys() != {c.root for c in found.customers}:
            return found
        customers = sorted(found.customers, key=lambda customer: places[customer.root])
        return replace(found, customers=tuple(customers), edges=tuple(joined))

    def merge(self, edge: Edge, *, command_id: CommandId) -> None:
        """Join two customers, as somebody decided. Raises `DomainError`."""
        one, other = RecordId(edge.older), RecordId(edge.newer)
        command = MergeCustomers.model_construct(
            **_asked(command_id),
            new_record_id=one,
            record_id=one,
            other_record_id=other,
            dry_run=False,
        )
        customers = self._customers([one, other])
        decision = merge_customers(self._rules, customers, command, now=_NEVER)
        self._store(decision.changes, command_id)

    def part(self, edge: Edge) -> None:
        """Undo what joins two records, if anything does, and keep them apart."""
        one, other = RecordId(edge.older), RecordId(edge.newer)
        while self.root_of(one) == self.root_of(other) and one != other:
            self._undo(self.root_of(one), self._edge_between(one, other, edge.merge_id))
        self._separate(one, other)

    def _edge_between(self, one: RecordId, other: RecordId, merge_id: str) -> MergeId:
        """Name the merge itself, or the newest one on the way between the two."""
        edges = self._records[self.root_of(one)].edges
        if any(edge.merge_id == merge_id for edge in edges):
            return MergeId(merge_id)
        for place in range(len(edges) - 1, -1, -1):
            without = [*edges[:place], *edges[place + 1 :]]
            if not any({one, other} <= {*part} for part in components((one, other), without)):
                return edges[place].merge_id
        raise AssertionError("two records of one customer are not joined")

    def _undo(self, root: RecordId, merge_id: MergeId) -> None:
        command = UndoMerge.model_construct(
            **_asked(CommandId(merge_id)),
            new_record_id=root,
            record_id=root,
            merge_id=merge_id,
            dry_run=False,
        )
        customer = Customer.of(root, self._records)
        decision = undo(self._rules, customer, command, address=root, now=_NEVER)
        self._store(decision.changes, CommandId(merge_id))

    def _separate(self, one: RecordId, other: RecordId) -> None:
        older, newer = sorted((one, other))
        if older == newer:
            return
        for root in {self.root_of(one), self.root_of(other)}:
            record = self._records[root]
            others = [s for s in record.separations if (s.one, s.other) != (older, newer)]
            kept = (*others, Separation(one=older, other=newer))
            self._records[root] = replace(record, separations=kept)

    def _customers(self, record_ids: Iterable[RecordId]) -> tuple[Customer, ...]:
        return tuple(
            Customer.of(r, self._records) for r in dict.fromkeys(map(self.root_of, record_ids))
        )

    def _store(self, changes: Iterable[Change], command_id: CommandId) -> None:
        for event in supposed([*changes], command_id, after=0, at=_NEVER):
            if event.stream.kind is not StreamKind.RECORD:
                continue
            record_id = RecordId(event.stream.key)
            record = self._records.get(record_id) or unborn(record_id)
            self._records[record_id] = evolve(record, event)
            self._note(record_id, event.body)

    def _note(self, record_id: RecordId, body: Event) -> None:
        match body:
            case IdentifiersLinked(keys=keys):
                self._holders |= dict.fromkeys(keys, record_id)
            case CustomersMerged(edges=edges, evidence=evidence):
                for edge in edges:
                    self._met_in[edge.merge_id] |= {self._namespaces[key] for key in evidence}
            case _:
                pass


def _asked(command_id: CommandId) -> dict[str, Any]:  # Any: what every command carries
    """Built without being validated: nothing of it came from outside."""
    return {"command_id": command_id, "auth_id": "", "issued_at": _NEVER, "deadline": _NEVER}
