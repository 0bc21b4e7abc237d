"""Persons, households and devices, made up from a seed. Every name and address is invented."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from random import Random

_ONSETS = ("k", "s", "t", "n", "h", "m", "r", "b", "d", "g", "sh", "ch", "f", "l", "v", "p")
_VOWELS = ("a", "e", "i", "o", "u")
_STREETS = ("Mill Lane", "Station Road", "Harbour Street", "Orchard Way", "Castle Hill")
_CITIES = (
    ("Kyoto", "JP"),
    ("Osaka", "JP"),
    ("Leeds", "GB"),
    ("Porto", "PT"),
    ("Ghent", "BE"),
    ("Turku", "FI"),
    ("Lyon", "FR"),
    ("Graz", "AT"),
)
OLDEST_BIRTH = date(1935, 1, 1)
BIRTH_DAYS = 365 * 70
HOUSEHOLD_SHARE = 0.25
"""Of people who live with the person made up before them."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How often what makes identity hard happens; of people, devices or messages, 0 to 1."""

    shared_devices: float = 0.01
    second_accounts: float = 0.05
    mistyped_emails: float = 0.03
    moves: float = 0.1
    erasures: float = 0.01
    late: float = 0.05
    delivered_twice: float = 0.03


@dataclass(slots=True)
class Account:
    """What a person signed up with: the shop's own number for them, and an address."""

    user_id: str
    email: str


@dataclass(slots=True)
class Person:
    """A person. `devices` are anonymous ids; a shared one is in two persons' lists."""

    number: int
    given_name: str
    surname: str
    birth_date: date
    city: str
    country: str
    street: str
    phone: str
    household: int
    accounts: list[Account]
    devices: list[str] = field(default_factory=list)

    @property
    def is_doubled(self) -> bool:
        """Whether the person signed up twice."""
        return len(self.accounts) > 1


def make_people(count: int, *, random: Random, shares: Shares) -> list[Person]:
    """Make up persons; some of a household share a device, some signed up twice."""
    people: list[Person] = []
    for number in range(1, count + 1):
        neighbour = people[-1] if people and random.random() < HOUSEHOLD_SHARE else None
        people.append(_person(number, neighbour, random=random, shares=shares))
    _share_devices(people, random=random, share=shares.shared_devices)
    return people


def _person(number: int, neighbour: Person | None, *, random: Random, shares: Shares) -> Person:
    given_name = _name(random, syllables=2)
    surname = neighbour.surname if neighbour else _name(random, syllables=3)
    city, country = (neighbour.city, neighbour.country) if neighbour else random.choice(_CITIES)
    street = neighbour.street if neighbour else _street(random)
    person = Person(
        number=number,
        given_name=given_name,
        surname=surname,
        birth_date=OLDEST_BIRTH + timedelta(days=random.randrange(BIRTH_DAYS)),
        city=city,
        country=country,
        street=street,
        phone=f"+4479{number:08d}",
        household=neighbour.household if neighbour else number,
        accounts=[_account(number, given_name, surname, place=1)],
        devices=[f"device-{number}-{place}" for place in range(1, random.randint(2, 4))],
    )
    if random.random() < shares.second_accounts:
        person.accounts.append(_account(number, given_name, surname, place=2))
    return person


def _account(number: int, given_name: str, surname: str, *, place: int) -> Account:
    local = f"{given_name}.{surname}.{number}" if place == 1 else f"{surname}{number}"
    return Account(user_id=f"u-{number}-{place}", email=f"{local}@mail{place}.example".lower())


def _share_devices(people: list[Person], *, random: Random, share: float) -> None:
    """Let neighbours use one device, until the named share of devices is used by two."""
    devices = sum(len(person.devices) for person in people)
    wanted = round(devices * share)
    pairs = list(pairwise(people))
    for owner, guest in random.sample(pairs, min(wanted, len(pairs))):
        if owner.devices[0] not in guest.devices:
            guest.devices.append(owner.devices[0])


def moved(person: Person, *, random: Random) -> dict[str, str]:
    """Give a person's new address."""
    city, country = random.choice([place for place in _CITIES if place[0] != person.city])
    return {"city": city, "country": country, "street": _street(random)}


def mistyped(email: str, *, random: Random) -> str:
    """Swap two neighbouring letters of an address; nobody made up here has the result."""
    local, domain = email.split("@")
    place = random.randrange(len(local) - 1)
    swapped = local[:place] + local[place + 1] + local[place] + local[place + 2 :]
    return f"{swapped}x@{domain}"


def _name(random: Random, *, syllables: int) -> str:
    name = "".join(random.choice(_ONSETS) + random.choice(_VOWELS) for _ in range(syllables))
    return name.capitalize()


def _street(random: Random) -> str:
    return f"{random.randint(1, 199)} {random.choice(_STREETS)}"
