"""What a caller expects of a customer: that nothing has changed since a revision that it knows.

Judged on pending state, before anything is decided. What is decided is then bound to every record
of the customer, so that a change of any of them before it is stored is a conflict (R1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from domain.commands import ExpectingCommand, PersonCommand, ReadmitIdentifier
from domain.customer import Customer
from domain.decision import Change, Decision
from domain.errors import Changed
from domain.identifier_histories import IdentifierHistories
from domain.identity_events import CustomerTouched
from domain.ids import IdentifierKey, RecordId, StreamKind, record_stream


@dataclass(frozen=True, slots=True)
class Expectation:
    """The revision after which nothing may have changed, and of whom."""

    revision: int
    customers: tuple[Customer, ...]

    def require(self) -> None:
        """Refuse where somebody has changed. Raises `Changed`.

        Who was erased is spared: no command changes them, and each says so.
        """
        newest = max((_changed(c) for c in self.customers if not c.is_erased), default=0)
        if newest > self.revision:
            raise Changed(newest)

    def bind(self, decision: Decision, command: PersonCommand) -> Decision:
        """Have every record hear of what changes. Raises `Changed` where nobody was known."""
        if decision.created and self.revision:
            raise Changed(0)
        changed = {c.stream.key for c in decision.changes if c.stream.kind is StreamKind.RECORD}
        if not changed:
            return decision
        body = CustomerTouched(record_id=min(changed))
        others = {r for customer in self.customers for r in customer.records} - changed
        touched = [Change(record_stream(r), body, command.issued_at) for r in sorted(others)]
        return decision._replace(changes=(*decision.changes, *touched))


def expectation_of(
    customers: Iterable[Customer],
    command: PersonCommand,
    *,
    histories: IdentifierHistories,
) -> Expectation | None:
    """Give what a command expects; None where it says nothing of it. Raises `Changed`.

    Of an identifier to be readmitted its holder's erasure counts: nobody else is meant.
    """
    if not isinstance(command, ExpectingCommand) or command.expected_revision is None:
        return None
    keys = [item.key for item in command.identifiers]
    if isinstance(command, ReadmitIdentifier):
        stones = [histories.tombstoned[key] for key in keys if key in histories.tombstoned]
        erased = max((stone.revision for stone in stones), default=0)
        if erased > command.expected_revision:
            raise Changed(erased)
        return None
    named = set(command.named_records)
    met = tuple(c for c in customers if _is_meant(c, named, keys))
    return Expectation(command.expected_revision, met)


def _is_meant(customer: Customer, named: set[RecordId], keys: Iterable[IdentifierKey]) -> bool:
    return not named.isdisjoint(customer.records) or any(customer.holds(key) for key in keys)


def _changed(customer: Customer) -> int:
    return max(record.changed_revision for record in customer.records.values())
