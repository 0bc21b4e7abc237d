"""The customer that a set of identifiers is putting together, and what may not join it.

Used while resolving, identifier by identifier from the strongest on: what is asked here is why the
next one would have to be left out. Nothing is refused that fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from domain.customer import Customer
from domain.identity import Identifier, LeftOutReason, Separation, pairs_of
from domain.identity_rules import IdentityRules
from domain.ids import (
    IDENTIFIERS_PER_CUSTOMER_MAX,
    RECORDS_PER_CUSTOMER_MAX,
    IdentifierKey,
    RecordId,
)


class Assembly:
    """Customers and new identifiers that are to be one customer."""

    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules
        self.customers: dict[RecordId, Customer] = {}
        self.claims: dict[IdentifierKey, Identifier] = {}
        self._uncounted: list[Customer] = []
        self._values: dict[str, int] = {}
        self._identifiers = 0

    def join(self, customer: Customer) -> None:
        """Take a customer in."""
        self.customers[customer.root] = customer
        self._uncounted.append(customer)

    def claim(self, identifier: Identifier) -> None:
        """Take a new identifier in."""
        self._count()
        self.claims[identifier.key] = identifier
        self._add({identifier.namespace: 1})
        self._identifiers += 1

    def bar_to_customer(self, customer: Customer) -> LeftOutReason | None:
        """Say why a customer may not join; None where it may."""
        if not self.customers and not self.claims:
            return None
        self._count()
        values = values_of(customer)
        if self._is_over(values):
            return LeftOutReason.TOO_MANY_VALUES
        if are_apart(self.customers.values(), customer):
            return LeftOutReason.SEPARATED
        records = sum(len(c.records) for c in self.customers.values()) + len(customer.records)
        if records > RECORDS_PER_CUSTOMER_MAX:
            return LeftOutReason.TOO_MANY_RECORDS
        if self._identifiers + identifiers_of(customer) > IDENTIFIERS_PER_CUSTOMER_MAX:
            return LeftOutReason.TOO_MANY_IDENTIFIERS
        return None

    def bar_to_claim(self, identifier: Identifier) -> LeftOutReason | None:
        """Say why a new identifier may not be linked; None where it may."""
        self._count()
        namespace = identifier.namespace
        if self._values.get(namespace, 0) >= self._rules.values_max(namespace):
            return LeftOutReason.TOO_MANY_VALUES
        if self._identifiers >= IDENTIFIERS_PER_CUSTOMER_MAX:
            return LeftOutReason.TOO_MANY_IDENTIFIERS
        return None

    def _is_over(self, values: Mapping[str, int]) -> bool:
        """Whether a namespace of which both sides have values would have too many."""
        return any(
            name in self._values and self._values[name] + more > self._rules.values_max(name)
            for name, more in values.items()
        )

    def _count(self) -> None:
        for customer in self._uncounted:
            self._add(values_of(customer))
            self._identifiers += identifiers_of(customer)
        self._uncounted = []

    def _add(self, values: Mapping[str, int]) -> None:
        for name, more in values.items():
            self._values[name] = self._values.get(name, 0) + more


def are_apart(joined: Iterable[Customer], customer: Customer) -> bool:
    """Whether a separation in force stands between a customer and one of the others."""
    for other in joined:
        if not (other.separations or customer.separations):
            continue
        if any(
            separation.is_in_force and _spans(separation, other, customer)
            for separation in pairs_of((*other.separations, *customer.separations)).values()
        ):
            return True
    return False


def values_of(customer: Customer) -> Counter[str]:
    """Count a customer's identifiers by namespace; of erased ones it is not known any more."""
    return Counter(
        item.namespace
        for record in customer.records.values()
        for item in record.identifiers.values()
        if item is not None
    )


def identifiers_of(customer: Customer) -> int:
    """Count a customer's identifiers."""
    return sum(len(record.identifiers) for record in customer.records.values())


def _spans(separation: Separation, one: Customer, other: Customer) -> bool:
    ends = (separation.one, separation.other)
    return any(end in one.records for end in ends) and any(end in other.records for end in ends)
