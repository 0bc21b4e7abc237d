"""Erasing a customer: one batch that closes every record of it and every identifier it holds (R14).

What follows is the steward's: keys, snapshots, and the word that it is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from domain.commands import EraseCustomer
from domain.customer import Customer
from domain.decision import Change, Decision
from domain.erasure_events import ErasureRequested
from domain.errors import NotFound, Refused
from domain.households import linked_by
from domain.identifier_histories import IdentifierHistories
from domain.identity_events import IdentifierTombstoned
from domain.ids import RecordId, identifier_stream, record_stream
from domain.record import Record
from domain.replies import Consequences, ErasedRecord


def erase(
    customers: Iterable[Customer],
    command: EraseCustomer,
    *,
    histories: IdentifierHistories,
) -> Decision:
    """Erase the one customer that a command names; one who is erased already stays so."""
    customer = _named(list(customers), command, histories)
    if customer.is_erased:
        erased_at = max(record.erased_since for record in customer.records.values())
        return Decision(customer.root, repeated_revision=erased_at)
    erased = tuple(_described(customer.records[member]) for member in sorted(customer.records))
    changes = () if command.dry_run else tuple(_changes(customer, command))
    return Decision(customer.root, changes, consequences=Consequences(erased=erased))


def _named(
    customers: list[Customer], command: EraseCustomer, histories: IdentifierHistories
) -> Customer:
    """Find the customer; all that is named must mean the same one."""
    tombstoned = histories.tombstoned
    met: dict[RecordId, Customer] = {}
    keys = [item.key for item in command.identifiers]
    erased = {tombstoned[key].record_id for key in keys if key in tombstoned}
    named = {*command.named_records, *erased}
    for customer in customers:
        if named & customer.records.keys() or any(customer.holds(key) for key in keys):
            met[customer.root] = customer
    if not met:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
    held = {key for customer in met.values() for key in keys if customer.holds(key)}
    if len(met) > 1 or not set(keys) <= held | tombstoned.keys():
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")
    return next(iter(met.values()))


def _changes(customer: Customer, command: EraseCustomer) -> list[Change]:
    """Close every identifier held now, then every record, so that one remembers the last event."""
    at, members = command.issued_at, sorted(customer.records)
    plain = ErasureRequested(root=customer.root, reference=command.reference)
    whole = plain.model_copy(update={"component": tuple(members), "live_edges": customer.edges})
    changes = [
        Change(identifier_stream(key), IdentifierTombstoned(record_id=member), at)
        for member in members
        for key in sorted(customer.records[member].identifiers)
    ]
    return changes + [
        Change(record_stream(m), whole if m == customer.root else plain, at) for m in members
    ]


def _described(record: Record) -> ErasedRecord:
    namespaces = Counter(i.namespace if i else "" for i in record.identifiers.values())
    return ErasedRecord(
        record_id=record.id,
        identifiers=dict(sorted(namespaces.items())),
        traits=len(record.traits),
        acts=len(record.acts),
        households=sum(bool(linked_by(words)) for words in record.households.values()),
        messages=len(record.messages),
    )
