"""How far two groupings of the same things agree, in pairs; and what nobody could have known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from examples.population.closure import Identifier
from examples.population.delivery import Delivery

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Pairs that are together in one grouping, in the other, and in both."""

    found: int
    wanted: int
    both: int

    @property
    def precision(self) -> float:
        """The share of the pairs found that were wanted; 1 if none was found."""
        return self.both / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """The share of the pairs wanted that were found; 1 if none was wanted."""
        return self.both / self.wanted if self.wanted else 1.0

    @property
    def differing(self) -> int:
        """How many pairs are together in one grouping only."""
        return self.found + self.wanted - 2 * self.both

    @property
    def f1(self) -> float:
        """The harmonic mean of the two."""
        pairs = self.found + self.wanted
        return 2 * self.both / pairs if pairs else 1.0


def agreement(found: Mapping[Item, Hashable], wanted: Mapping[Item, Hashable]) -> Agreement:
    """Compare two groupings; what is missing from one stands in it alone."""
    items = [*found.keys() | wanted.keys()]
    here = {item: found.get(item, ("alone", item)) for item in items}
    there = {item: wanted.get(item, ("alone", item)) for item in items}
    return Agreement(
        found=_pairs(here.values()),
        wanted=_pairs(there.values()),
        both=_pairs((here[item], there[item]) for item in items),
    )


def _pairs(groups: Iterable[Hashable]) -> int:
    return sum(size * (size - 1) // 2 for size in Counter(groups).values())


def named(delivery: Delivery) -> list[Identifier]:
    """Give the identifiers that a delivery names, as `(namespace, value)`, the strongest first."""
    body = delivery.body
    traits = body.get("traits", {})
    given = {
        "user_id": body.get("userId") or body.get("user_id"),
        "email": traits.get("email"),
        "phone": traits.get("phone"),
        "anonymous_id": body.get("anonymousId"),
    }
    return [(namespace, value) for namespace, value in given.items() if value is not None]


def share_undecidable(deliveries: Iterable[Delivery]) -> float:
    """Give the share of pairs of messages of one person that no rule of identifiers could join.

    Nothing that this person alone has ever used leads from the one message to the other: browsing
    on a device that nobody logged in on, or on one that two people did.
    """
    deliveries = list({delivery.message_id: delivery for delivery in deliveries}.values())
    users: defaultdict[Identifier, set[int]] = defaultdict(set)
    for delivery in deliveries:
        for identifier in named(delivery):
            users[identifier].add(delivery.person)
    joined = _Joined()
    for delivery in deliveries:
        for identifier in named(delivery):
            if len(users[identifier]) == 1:
                joined.join(delivery.message_id, identifier)
    together = {d.message_id: joined.first_of(d.message_id) for d in deliveries}
    one_person = {d.message_id: d.person for d in deliveries}
    return 1.0 - agreement(together, one_person).recall


class _Joined:
    """Things that were joined, directly or through others."""

    def __init__(self) -> None:
        self._towards: dict[Hashable, Hashable] = {}

    def first_of(self, item: Hashable) -> Hashable:
        while (towards := self._towards.get(item, item)) != item:
            self._towards[item] = self._towards.get(towards, towards)
            item = towards
        return item

    def join(self, one: Hashable, other: Hashable) -> None:
        self._towards[self.first_of(one)] = self.first_of(other)
