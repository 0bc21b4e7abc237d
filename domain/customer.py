"""A customer: records joined by live edges, and what identifiers make of several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain.commands import CustomerCommand
from domain.errors import NotFound, Refused
from domain.identity import Edge, Identifier, root_of, strength
from domain.ids import (
    IDENTIFIERS_PER_CUSTOMER_MAX,
    RECORDS_PER_CUSTOMER_MAX,
    CommandId,
    IdentifierKey,
    MergeId,
    RecordId,
    derived_id,
)
from domain.record import Fate, Record, RememberedCommand
from domain.signals import SignalKey


@dataclass(frozen=True, slots=True)
class Customer:
    """The records of one customer by id; its own id is the oldest one's."""

    records: Mapping[RecordId, Record]

    @property
    def root(self) -> RecordId:
        """The customer's id."""
        return root_of(self.records)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The live merges that hold it together."""
        return self.records[self.root].edges

    def __str__(self) -> str:
        return f"Customer<{self.root}>"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a set of identifiers comes to.

    `address` is the record that gets the events, `root` the id of the customer as it will be,
    `unclaimed` the identifiers that nobody holds, `edges` the merges that it would take.
    `records` are those of the customer as it will be, without one still to be created.
    """

    customers: tuple[Customer, ...]
    records: Mapping[RecordId, Record]
    address: RecordId
    root: RecordId
    unclaimed: tuple[Identifier, ...]
    edges: tuple[Edge, ...]

    @property
    def is_known(self) -> bool:
        """Whether anybody was found."""
        return bool(self.customers)


def resolve(customers: Iterable[Customer], command: CustomerCommand) -> Resolution:
    """Resolve whom a command means, given at least every customer that it touches."""
    if command.record_id is None and not command.identifiers:
        raise NotFound("MISSING_IDENTIFIER", "neither a customer id nor an identifier was given")
    given = {customer.root: customer for customer in customers}
    by_strength = sorted(command.identifiers, key=strength)
    holders = _holders(given.values(), by_strength)
    met = _meeting_records(given.values(), command.record_id, holders)
    unclaimed = {item.key: item for item in by_strength if item.key not in holders}
    new_record_id = RecordId(command.new_record_id)
    found = tuple(given[root] for root in sorted(met))
    return Resolution(
        customers=found,
        records={record.id: record for customer in found for record in customer.records.values()},
        address=next(iter(met.values()), new_record_id),
        root=min(met, default=new_record_id),
        unclaimed=tuple(unclaimed.values()),
        edges=_edges(command.command_id, list(met.values())),
    )


def _holders(
    customers: Iterable[Customer], identifiers: list[Identifier]
) -> dict[IdentifierKey, tuple[RecordId, RecordId]]:
    """Say of each held identifier, the strongest first, whose root and which record holds it."""
    held = {
        key: (customer.root, record.id)
        for customer in customers
        for record in customer.records.values()
        for key in record.identifiers
    }
    return {item.key: held[item.key] for item in identifiers if item.key in held}


def _meeting_records(
    customers: Iterable[Customer],
    record_id: str | None,
    holders: Mapping[IdentifierKey, tuple[RecordId, RecordId]],
) -> dict[RecordId, RecordId]:
    """Name by its root, for each customer, the record where it is met, the strongest first."""
    met: dict[RecordId, RecordId] = {}
    if record_id is not None:
        named = RecordId(record_id)
        owner = next((c for c in customers if named in c.records), None)
        if owner is None:
            raise NotFound("UNKNOWN_CUSTOMER", "no customer has this id")
        met[owner.root] = named
    for root, holder in holders.values():
        met.setdefault(root, holder)
    return met


def _edges(command_id: CommandId, met: list[RecordId]) -> tuple[Edge, ...]:
    """Join each further customer to the one that was met most strongly."""
    return tuple(
        Edge(
            merge_id=MergeId(derived_id(command_id, f"merge:{place}")),
            older=min(met[0], other),
            newer=max(met[0], other),
        )
        for place, other in enumerate(met[1:], start=1)
    )


def check_limits(resolution: Resolution) -> None:
    """Refuse a customer too large for one batch (R7); asked only where identity would change."""
    records = resolution.records
    if len(records) > RECORDS_PER_CUSTOMER_MAX:
        raise Refused("TOO_MANY_RECORDS", "the customer would hold more than 256 records")
    identifiers = sum(len(record.identifiers) for record in records.values())
    if identifiers + len(resolution.unclaimed) > IDENTIFIERS_PER_CUSTOMER_MAX:
        raise Refused("TOO_MANY_IDENTIFIERS", "the customer would hold more than 512 identifiers")


def remembered_command(
    records: Mapping[RecordId, Record], command_id: CommandId
) -> RememberedCommand | None:
    """Find a command that was carried out before."""
    found = (record.commands.get(command_id) for record in records.values())
    return max((c for c in found if c), key=lambda c: c.revision, default=None)


def fate_of(records: Mapping[RecordId, Record], key: SignalKey) -> Fate | None:
    """Say what became of a message that came before."""
    for record in records.values():
        if key in record.messages:
            return record.messages[key]
    return None
