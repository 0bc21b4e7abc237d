"""Who is whom by a workspace's identity rules, worked out plainly, one message after another.

A second computation of what Koseki resolves, from the wording of its design alone: feed it what the
log took, in the log's order. Where the wording leaves room it was decided as `Closure.take` says.
It looks nothing up but its own dictionaries, knows no time, and gets values already normalised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

IDENTIFIERS_MAX = 512
RECORDS_MAX = 256

Identifier = tuple[str, str]
"""Namespace and value."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A kind of identifier, and how many values of it a customer may have.

    With `parts` it is a composite: made of these traits, where all of them are there.
    """

    name: str
    values_max: int
    parts: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class _Customer:
    records: set[str] = field(default_factory=set)
    identifiers: set[Identifier] = field(default_factory=set)
    edges: list[tuple[str, str]] = field(default_factory=list)


class Closure:
    """Customers, as rules make them of messages; the strongest namespace is named first."""

    def __init__(self, rules: Sequence[Namespace]) -> None:
        self._ranks = {namespace.name: rank for rank, namespace in enumerate(rules)}
        self._values_max = {namespace.name: namespace.values_max for namespace in rules}
        self._composites = [namespace for namespace in rules if namespace.parts]
        self._holders: dict[Identifier, str] = {}
        self._customers: dict[str, _Customer] = {}
        self._apart: set[frozenset[str]] = set()
        self._records: dict[str, str] = {}

    def composed(self, traits: Mapping[str, str]) -> list[Identifier]:
        """Make the composites of a message's traits."""
        return [
            (namespace.name, "\n".join(traits[part] for part in namespace.parts))
            for namespace in self._composites
            if all(traits.get(part) for part in namespace.parts)
        ]

    def take(self, message_id: str, identifiers: Iterable[Identifier], *, record: str = "") -> None:
        """Take the next message; `record` names the one that begins if nobody is known by it.

        * A message that was taken before changes nothing.
        * Identifiers are taken from the strongest on; two of one namespace in the order given.
        * One that nobody holds is linked, unless its namespace or the customer would be over.
        * One that is held brings its customer in, unless a namespace of which both sides have
          values, the customer's records or identifiers would be over, or a separation lies between;
          what is already over on one side alone keeps nobody out. The first is never kept out.
        * What stays outside leaves the rest as it is: the message is not refused, and an identifier
          that comes later, from the same customer, is tried anew.
        * The message goes to the record that held the strongest identifier that was used. So do
          the new identifiers, and each further customer is joined to it there.
        """
        if message_id in self._records:
            return
        met: list[tuple[_Customer, str]] = []
        claims: list[Identifier] = []
        for identifier in sorted(dict.fromkeys(identifiers), key=self._rank):
            holder = self._holders.get(identifier)
            if holder is None:
                if self._has_room(met, claims, more={identifier}):
                    claims.append(identifier)
                continue
            customer = self._customers[holder]
            if any(customer is known for known, _ in met):
                continue
            if not (met or claims) or self._may_join(met, claims, customer):
                met.append((customer, holder))
        place = met[0][1] if met else record or message_id
        self._records[message_id] = place
        self._become_one(met, claims, place)

    def undo(self, one: str, other: str) -> None:
        """Undo the merge that joined two records there, and keep them apart from here on."""
        whole = self._customers[one]
        edges = [edge for edge in whole.edges if set(edge) != {one, other}]
        self._apart.add(frozenset((one, other)))
        for start in (one, other):
            side = _reached(start, edges)
            held = {name for name in whole.identifiers if self._holders[name] in side}
            kept = [edge for edge in edges if edge[0] in side]
            parted = _Customer(side, held, kept)
            self._customers.update(dict.fromkeys(side, parted))

    def customer_of_message(self, message_id: str) -> str:
        """Name a message's customer: the smallest name of its records."""
        return min(self._customers[self._records[message_id]].records)

    def customer_of(self, identifier: Identifier) -> str | None:
        """Name the customer that an identifier means."""
        holder = self._holders.get(identifier)
        return None if holder is None else min(self._customers[holder].records)

    def messages(self) -> dict[str, str]:
        """Name every message's customer."""
        return {message_id: self.customer_of_message(message_id) for message_id in self._records}

    def identifiers(self) -> dict[Identifier, str]:
        """Name the customer of every identifier that somebody holds."""
        names: dict[int, str] = {}
        found: dict[Identifier, str] = {}
        for identifier, holder in self._holders.items():
            customer = self._customers[holder]
            if id(customer) not in names:
                names[id(customer)] = min(customer.records)
            found[identifier] = names[id(customer)]
        return found

    def _rank(self, identifier: Identifier) -> int:
        return self._ranks.get(identifier[0], len(self._ranks))

    def _has_room(
        self,
        met: list[tuple[_Customer, str]],
        claims: list[Identifier],
        *,
        more: set[Identifier],
    ) -> bool:
        """Whether these identifiers fit beside those of everybody met and those to be linked."""
        here = set(claims).union(*(customer.identifiers for customer, _ in met))
        counts = Counter(name for name, _ in here)
        added = Counter(name for name, _ in more)
        is_over = any(
            counts[name] and counts[name] + count > self._values_max.get(name, IDENTIFIERS_MAX)
            for name, count in added.items()
        )
        return not is_over and len(here) + len(more) <= IDENTIFIERS_MAX

    def _may_join(
        self, met: list[tuple[_Customer, str]], claims: list[Identifier], customer: _Customer
    ) -> bool:
        if not self._has_room(met, claims, more=customer.identifiers):
            return False
        records = set().union(*(known.records for known, _ in met))
        if len(records) + len(customer.records) > RECORDS_MAX:
            return False
        return not any(
            frozenset((one, other)) in self._apart
            for one in records
            for other in customer.records
            if self._apart
        )

    def _become_one(
        self, met: list[tuple[_Customer, str]], claims: list[Identifier], place: str
    ) -> None:
        customers = [customer for customer, _ in met] or [_Customer({place})]
        whole = max(customers, key=lambda customer: len(customer.identifiers))
        for customer in customers:
            if customer is not whole:
                whole.records |= customer.records
                whole.identifiers |= customer.identifiers
                whole.edges += customer.edges
        whole.edges += [(place, other) for _, other in met[1:]]
        whole.identifiers.update(claims)
        self._holders.update(dict.fromkeys(claims, place))
        changed = whole.records if len(customers) > 1 else {place}
        self._customers.update(dict.fromkeys(changed, whole))


def _reached(start: str, edges: Iterable[tuple[str, str]]) -> set[str]:
    """Give the records that edges join to one."""
    found, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        beside = {end for edge in edges if here in edge for end in edge} - found
        found |= beside
        waiting += beside
    return found
