"""How identifiers leave those who hold them, and how a tombstoned one may be used again.

Unlinking removes no edge: what was merged because of an identifier stays one customer.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.commands import ReadmitIdentifier, UnlinkIdentifier
from domain.customer import Customer
from domain.decision import Change, Decision
from domain.errors import NotFound, Refused
from domain.identifier_histories import IdentifierHistories
from domain.identity_events import (
    CustomerTouched,
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifiersUnlinked,
)
from domain.ids import IdentifierKey, RecordId, identifier_stream, record_stream
from domain.resolution import owner_of


def unlink(customers: Iterable[Customer], command: UnlinkIdentifier) -> Decision:
    """Take an identifier from the record that holds it; whoever brings it next may claim it."""
    known = list(customers)
    key = command.identifiers[0].key
    if command.record_id is not None:
        known = [owner_of(known, RecordId(command.record_id))]
    customer, holder = _holder(known, key)
    at = command.issued_at
    changes = [
        Change(identifier_stream(key), IdentifierReleased(record_id=holder), at),
        Change(record_stream(holder), IdentifiersUnlinked(keys=(key,)), at),
    ]
    if holder != customer.root:
        touched = CustomerTouched(record_id=holder)
        changes.append(Change(record_stream(customer.root), touched, at))
    return Decision(customer.root, tuple(changes))


def readmit(command: ReadmitIdentifier, histories: IdentifierHistories) -> Decision:
    """Let an identifier of somebody erased be used again."""
    key = command.identifiers[0].key
    if key not in histories.tombstoned:
        raise Refused("NOT_ERASED", "the identifier is not one of somebody erased")
    body = IdentifierReadmitted(reference=command.reference)
    return Decision(None, (Change(identifier_stream(key), body, command.issued_at),))


def _holder(customers: Iterable[Customer], key: IdentifierKey) -> tuple[Customer, RecordId]:
    for customer in customers:
        for record in customer.records.values():
            if key in record.identifiers:
                return customer, record.id
    raise NotFound("UNKNOWN_IDENTIFIER", "the identifier is not held there")
