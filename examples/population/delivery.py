"""How what people did arrives: mostly at once, some of it late, some of it twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from examples.population.lives import LIFE, Deed, Kind, live
from examples.population.people import Person, Shares, make_people

BORN_OVER = timedelta(days=30)
"""Lives begin at random within this time of each other."""

STARTS_AT = datetime(2026, 1, 5, tzinfo=UTC)
LATE_BY_MAX = timedelta(days=3)
TWICE_WITHIN = timedelta(hours=2)
AT_ONCE_WITHIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One arrival. The same message id may arrive again; consent and erasure arrive once, in time.

    `person` is the truth about who it was, and no part of what a system is told.
    """

    delivered_at: datetime
    happened_at: datetime
    kind: Kind
    message_id: str
    source: str
    body: dict[str, Any]
    person: int

    def call(self) -> dict[str, Any]:
        """Give a call as the Segment spec writes it."""
        return {
            **self.body,
            "messageId": self.message_id,
            "timestamp": self.happened_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Population:
    """Persons, and everything that arrives, in order of arrival."""

    people: list[Person]
    deliveries: list[Delivery]


def populate(count: int, *, seed: int, shares: Shares | None = None) -> Population:
    """Make up a population; the same arguments give the same one."""
    shares = shares or Shares()
    random = Random(seed)  # noqa: S311  # a seed that gives the same again is the point
    people = make_people(count, random=random, shares=shares)
    deeds = (
        deed
        for person in people
        for deed in live(
            person,
            starts_at=STARTS_AT + BORN_OVER * random.random(),
            random=random,
            shares=shares,
        )
    )
    arrivals = _arrivals(deeds, random=random, shares=shares)
    deliveries = sorted(arrivals, key=lambda item: (item.delivered_at, item.message_id))
    return Population(people, _unanswered(deliveries))


def ends_at() -> datetime:
    """Give a time at which everything has arrived."""
    return STARTS_AT + BORN_OVER + LIFE + LATE_BY_MAX + TWICE_WITHIN


def _arrivals(deeds: Iterable[Deed], *, random: Random, shares: Shares) -> Iterator[Delivery]:
    for number, deed in enumerate(deeds, start=1):
        delay = AT_ONCE_WITHIN * random.random()
        if deed.kind == "call" and random.random() < shares.late:
            delay = LATE_BY_MAX * random.random()
        first = Delivery(
            delivered_at=deed.happened_at + delay,
            happened_at=deed.happened_at,
            kind=deed.kind,
            message_id=f"m-{number}",
            source=deed.source,
            body=deed.body,
            person=deed.person,
        )
        yield first
        if deed.kind == "call" and random.random() < shares.delivered_twice:
            again = first.delivered_at + TWICE_WITHIN * random.random()
            yield Delivery(again, *_rest(first))


def _rest(delivery: Delivery) -> tuple[datetime, Kind, str, str, dict[str, Any], int]:
    return (
        delivery.happened_at,
        delivery.kind,
        delivery.message_id,
        delivery.source,
        delivery.body,
        delivery.person,
    )


def _unanswered(deliveries: list[Delivery]) -> list[Delivery]:
    """Leave out acts that nobody could address: of an account whose sign-up had not arrived."""
    known: set[str] = set()
    kept: list[Delivery] = []
    for delivery in deliveries:
        user_id = delivery.body.get("userId")
        if user_id is not None:
            known.add(user_id)
        if delivery.kind == "call" or delivery.body["user_id"] in known:
            kept.append(delivery)
    return kept
