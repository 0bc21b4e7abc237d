"""What persons do, as messages and acts with the time at which they happened.

A life is browsing on a device that nobody is known by, signing up (now and then with a typing
error), logging in on other devices, buying, agreeing and objecting, moving, perhaps signing up a
second time, perhaps asking to be erased.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal

from examples.population.people import Account, Person, Shares, mistyped, moved

SHOP = "shop"
WEB = "web"
PURPOSES = {"service": "contract", "analytics": "consent", "marketing": "consent"}
"""Purposes of the population's workspace, with their lawful basis."""

SOURCES = {SHOP: ("service", "analytics", "marketing"), WEB: ("service", "analytics")}
"""Its sources, with the purposes that each serves."""

LIFE = timedelta(days=90)
AGREES = {"analytics": 0.7, "marketing": 0.5}
REFUSES = 0.5
"""Of those who do not agree: who says no in words; the others say nothing."""

WITHDRAWS = 0.2
LOGS_IN_ELSEWHERE = 0.8
ORDER = "Order Completed"
PAGES = ("Home", "Search", "Product", "Basket")
PRODUCTS = (("book", "19.90"), ("record", "14.77"), ("lamp", "49.00"), ("tea", "7.25"))

Kind = Literal["call", "consent", "erase"]


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing a person did. A `call` is a Segment-spec call of a source.

    `consent` has {purpose, state, user_id}; `erase` has {user_id}.
    """

    person: int
    happened_at: datetime
    kind: Kind
    body: dict[str, Any]
    source: str = ""


@dataclass(slots=True)
class _Life:
    person: Person
    random: Random
    shares: Shares
    starts_at: datetime
    deeds: list[Deed] = field(default_factory=list)

    def at(self, earliest: float, latest: float) -> datetime:
        """Give a time between two shares of the life's length."""
        return self.starts_at + LIFE * self.random.uniform(earliest, latest)

    def call(self, at: datetime, source: str, body: dict[str, Any]) -> None:
        self.deeds.append(Deed(self.person.number, at, "call", body, source))

    def act(self, at: datetime, kind: Kind, body: dict[str, str]) -> None:
        self.deeds.append(Deed(self.person.number, at, kind, body))


def live(person: Person, *, starts_at: datetime, random: Random, shares: Shares) -> list[Deed]:
    """Tell a person's life, in order of time."""
    life = _Life(person, random, shares, starts_at)
    first, *later = person.accounts
    _browse(life, person.devices[0])
    signed_up = life.at(0.05, 0.2)
    _sign_up(life, first, person.devices[0], signed_up)
    _consent(life, first, signed_up)
    for device in person.devices[1:]:
        if random.random() < LOGS_IN_ELSEWHERE:
            _log_in(life, first, device)
    _buy(life, first)
    for account in later:
        _sign_up(life, account, random.choice(person.devices), life.at(0.4, 0.6))
    if random.random() < shares.moves:
        _move(life, first)
    if random.random() < shares.erasures:
        asked_at = life.at(0.9, 1.0)
        for account in person.accounts:
            life.act(asked_at, "erase", {"user_id": account.user_id})
    return sorted(life.deeds, key=lambda deed: deed.happened_at)


def _browse(life: _Life, device: str) -> None:
    for _ in range(life.random.randint(0, 3)):
        life.call(life.at(0.0, 0.05), WEB, _page(life, device))


def _sign_up(life: _Life, account: Account, device: str, at: datetime) -> None:
    if life.random.random() < life.shares.mistyped_emails:
        wrong = mistyped(account.email, random=life.random)
        life.call(at, SHOP, _identify(life.person, account, device, email=wrong))
        at += timedelta(minutes=life.random.randint(1, 90))
    life.call(at, SHOP, _identify(life.person, account, device, email=account.email))


def _identify(person: Person, account: Account, device: str, *, email: str) -> dict[str, Any]:
    traits = {
        "email": email,
        "phone": person.phone,
        "firstName": person.given_name,
        "lastName": person.surname,
        "birthday": person.birth_date.isoformat(),
        "city": person.city,
        "country": person.country,
    }
    return {
        "type": "identify",
        "userId": account.user_id,
        "anonymousId": device,
        "traits": traits,
    }


def _log_in(life: _Life, account: Account, device: str) -> None:
    at = life.at(0.2, 0.9)
    body = {"type": "track", "event": "Logged In"}
    life.call(at, WEB, {**body, "userId": account.user_id, "anonymousId": device})
    for _ in range(life.random.randint(0, 2)):
        at += timedelta(minutes=life.random.randint(1, 30))
        life.call(at, WEB, _page(life, device))


def _page(life: _Life, device: str) -> dict[str, Any]:
    return {"type": "page", "name": life.random.choice(PAGES), "anonymousId": device}


def _buy(life: _Life, account: Account) -> None:
    for _ in range(life.random.randint(0, 4)):
        product, price = life.random.choice(PRODUCTS)
        quantity = life.random.randint(1, 3)
        properties = {"product": product, "quantity": quantity, "price": float(price)}
        body = {"type": "track", "event": ORDER, "userId": account.user_id}
        life.call(life.at(0.2, 1.0), SHOP, {**body, "properties": properties})


def _consent(life: _Life, account: Account, signed_up: datetime) -> None:
    for purpose, at, state in _acts(life, signed_up):
        body = {"user_id": account.user_id, "purpose": purpose, "state": state}
        life.act(at, "consent", body)


def _acts(life: _Life, signed_up: datetime) -> Iterator[tuple[str, datetime, str]]:
    for place, (purpose, agrees) in enumerate(AGREES.items(), start=1):
        asked_at = signed_up + timedelta(minutes=5, seconds=place)
        if life.random.random() < agrees:
            yield purpose, asked_at, "given"
            if life.random.random() < WITHDRAWS:
                yield purpose, life.at(0.5, 0.8), "withdrawn"
        elif life.random.random() < REFUSES:
            yield purpose, asked_at, "refused"


def _move(life: _Life, account: Account) -> None:
    traits = moved(life.person, random=life.random)
    body = {"type": "identify", "userId": account.user_id, "traits": traits}
    life.call(life.at(0.6, 0.9), SHOP, body)
