"""Whom identifiers mean: nobody yet, somebody, or several who become one; and which are left out.

Taken from the strongest on; one that would break a limit, join two values of a namespace that
admits one, or cross a separation is left out, never the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from domain.commands import CustomerCommand
from domain.customer import Customer
from domain.errors import NotFound, Refused
from domain.identifier_histories import NO_HISTORIES, IdentifierHistories
from domain.identity import Edge, Identifier, LeftOut, LeftOutReason, PastHolder
from domain.identity_rules import IdentityRules
from domain.ids import CommandId, IdentifierKey, RecordId, merge_id_of
from domain.limits import Assembly
from domain.past_holders import Freed, holders_before, of_records, taken_from
from domain.record import Record

CUSTOMER_ERASED = "CUSTOMER_ERASED"
IDENTIFIER_ERASED = "IDENTIFIER_ERASED"
ERASED = frozenset({CUSTOMER_ERASED, IDENTIFIER_ERASED})
"""Why a command of somebody erased is refused, named by id or by what the person held."""

DROPPED = frozenset({LeftOutReason.BLOCKED, LeftOutReason.ERASED})
"""Why an identifier is as if it had not come; of others it is known whom they would mean."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a set of identifiers comes to.

    `address` is the record that gets the events, `root` the id of the customer as it will be,
    `unclaimed` the identifiers that nobody holds, `edges` the merges that it would take, the
    customers in the order in which they join. `records` are those of the customer as it will be,
    without one still to be created; `left_out` says what was not used, `apart` who holds it and is
    not joined, `is_of_erased` whether the strongest identifier is that of somebody erased.
    `past_holders` held the unclaimed not long ago; `before` are who had any of the identifiers
    before whom they mean now, and may remember the command.
    """

    customers: tuple[Customer, ...]
    records: Mapping[RecordId, Record]
    address: RecordId
    root: RecordId
    unclaimed: tuple[Identifier, ...]
    edges: tuple[Edge, ...]
    left_out: tuple[LeftOut, ...] = ()
    apart: tuple[Customer, ...] = ()
    past_holders: tuple[PastHolder, ...] = ()
    before: tuple[Customer, ...] = ()
    is_of_erased: bool = False

    @property
    def is_known(self) -> bool:
        """Whether anybody was found."""
        return bool(self.customers)

    @property
    def dropped(self) -> tuple[LeftOut, ...]:
        """The identifiers that are as if they had not come."""
        return tuple(item for item in self.left_out if item.reason in DROPPED)

    @property
    def addressee(self) -> Customer | None:
        """The customer, as it is now, that the strongest identifier means."""
        return self.customers[0] if self.customers else None


@dataclass(slots=True)
class _Met:
    """What was met so far: by its root, each customer's record that was met the most strongly."""

    assembly: Assembly
    records: dict[RecordId, RecordId] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    apart: dict[RecordId, Customer] = field(default_factory=dict)
    is_of_erased: bool = False

    def take(self, identifier: Identifier, holder: tuple[Customer, RecordId] | None) -> None:
        if holder is None:
            bar = self.assembly.bar_to_claim(identifier)
            if bar is None:
                self.assembly.claim(identifier)
        else:
            customer, record_id = holder
            if customer.root in self.records:
                return
            bar = self.assembly.bar_to_customer(customer)
            if bar is None:
                self.meet(customer, record_id)
            else:
                self.apart[customer.root] = customer
        if bar is not None:
            self.left_out.append(LeftOut(key=identifier.key, reason=bar))

    def meet(self, customer: Customer, record_id: RecordId) -> None:
        self.assembly.join(customer)
        self.records[customer.root] = record_id


def resolve(
    rules: IdentityRules,
    customers: Iterable[Customer],
    command: CustomerCommand,
    *,
    histories: IdentifierHistories = NO_HISTORIES,
) -> Resolution:
    """Resolve whom a command means, given at least every customer that it touches.

    Raises `NotFound` where it names nobody or an unknown id, `Refused` where all that it came with
    was left out before anybody was met.
    """
    if command.record_id is None and not command.identifiers and not command.left_out:
        raise NotFound("MISSING_IDENTIFIER", "neither a customer id nor an identifier was given")
    given = list(customers)
    met = _meet(rules, given, command, histories=histories)
    new_record_id = RecordId(command.new_record_id)
    found = tuple(met.assembly.customers.values())
    records = {record.id: record for customer in found for record in customer.records.values()}
    claims = met.assembly.claims
    return Resolution(
        customers=found,
        records=records,
        address=next(iter(met.records.values()), new_record_id),
        root=min(met.records, default=new_record_id),
        unclaimed=tuple(claims.values()),
        edges=_edges(command.command_id, list(met.records.values())),
        left_out=tuple(met.left_out),
        apart=tuple(met.apart.values()),
        past_holders=taken_from(claims, command, freed=histories.freed),
        before=_before(given, records, command, freed=histories.freed),
        is_of_erased=met.is_of_erased,
    )


def _meet(
    rules: IdentityRules,
    customers: Sequence[Customer],
    command: CustomerCommand,
    *,
    histories: IdentifierHistories,
) -> _Met:
    met = _Met(Assembly(rules), left_out=list(command.left_out))
    if command.record_id is not None:
        met.meet(owner_of(customers, RecordId(command.record_id)), RecordId(command.record_id))
    distinct = {item.key: item for item in command.identifiers}
    ordered = sorted(distinct.values(), key=rules.strength)
    for identifier in ordered:
        if identifier.key in histories.tombstoned:
            erased = LeftOut(key=identifier.key, reason=LeftOutReason.ERASED)
            met.left_out.append(erased)
        else:
            met.take(identifier, _holder(customers, identifier.key))
    if not met.records and not met.assembly.claims:
        raise _nothing_left(met.left_out)
    met.is_of_erased = command.record_id is None and ordered[0].key in histories.tombstoned
    return met


def owner_of(customers: Iterable[Customer], record_id: RecordId) -> Customer:
    """Find the customer of a record. Raises `NotFound`: UNKNOWN_CUSTOMER or CUSTOMER_ERASED."""
    owner = next((c for c in customers if record_id in c.records), None)
    if owner is None:
        raise NotFound("UNKNOWN_CUSTOMER", "no customer has this id")
    if owner.is_erased:
        raise NotFound(CUSTOMER_ERASED, "the customer was erased")
    return owner


def _before(
    customers: Iterable[Customer],
    records: Mapping[RecordId, Record],
    command: CustomerCommand,
    *,
    freed: Freed,
) -> tuple[Customer, ...]:
    known = of_records(records.values())
    before = {RecordId(h.record_id) for h in holders_before(known, command, freed=freed)}
    before -= records.keys()
    return tuple(c for c in customers if not before.isdisjoint(c.records)) if before else ()


def _holder(customers: Iterable[Customer], key: IdentifierKey) -> tuple[Customer, RecordId] | None:
    for customer in customers:
        for record in customer.records.values():
            if key in record.identifiers:
                return customer, record.id
    return None


def _edges(command_id: CommandId, met: list[RecordId]) -> tuple[Edge, ...]:
    """Join each further customer to the one that was met most strongly."""
    return tuple(
        Edge(
            merge_id=merge_id_of(command_id, place),
            older=min(met[0], other),
            newer=max(met[0], other),
        )
        for place, other in enumerate(met[1:], start=1)
    )


def held_by_erased() -> Refused:
    """Refuse what is about somebody erased (R14)."""
    return Refused(IDENTIFIER_ERASED, "who held the identifiers was erased: readmit them")


def _nothing_left(left_out: list[LeftOut]) -> Refused:
    if any(item.reason is LeftOutReason.ERASED for item in left_out):
        return held_by_erased()
    return Refused("IDENTIFIER_BLOCKED", "nothing is left of the identifiers that name nobody")
