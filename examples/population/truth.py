"""What a perfect system would know: whose each message is, what is open for whom, who is erased."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from examples.population.delivery import Delivery, Population
from examples.population.lives import ORDER, PURPOSES

GRANTS = frozenset({"given"})
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PersonTruth:
    """One person as of an instant: what each purpose says, and what arrived of them once."""

    person: int
    open_purposes: frozenset[str]
    is_erased: bool
    orders: int


def truth_at(population: Population, instant: datetime) -> dict[int, PersonTruth]:
    """Say what is so of everybody when all that arrived by an instant is known."""
    arrived = [d for d in population.deliveries if d.delivered_at <= instant]
    erased = {d.person for d in arrived if d.kind == "erase"}
    orders = _orders(arrived)
    acts = _last_acts(arrived)
    return {
        number: PersonTruth(
            person=number,
            open_purposes=NONE if number in erased else _open(acts.get(number, {})),
            is_erased=number in erased,
            orders=len(orders.get(number, ())),
        )
        for number in (person.number for person in population.people)
    }


def owners(population: Population) -> dict[str, frozenset[int]]:
    """Say of every identifier, as `namespace:value`, whose it is; a shared device is two's."""
    found: dict[str, set[int]] = {}
    for person in population.people:
        names = [f"anonymous_id:{device}" for device in person.devices]
        names += [f"user_id:{account.user_id}" for account in person.accounts]
        names += [f"email:{account.email}" for account in person.accounts]
        names.append(f"phone:{person.phone}")
        for name in names:
            found.setdefault(name, set()).add(person.number)
    return {name: frozenset(people) for name, people in found.items()}


def _last_acts(arrived: Iterable[Delivery]) -> dict[int, dict[str, str]]:
    """Give everybody's last word on each purpose; acts arrive in the order in which they happen."""
    acts: dict[int, dict[str, tuple[datetime, str]]] = {}
    for delivery in arrived:
        if delivery.kind == "consent":
            said = acts.setdefault(delivery.person, {})
            word = (delivery.happened_at, delivery.body["state"])
            purpose = delivery.body["purpose"]
            said[purpose] = max(said.get(purpose, word), word)
    return {
        person: {purpose: state for purpose, (_, state) in said.items()}
        for person, said in acts.items()
    }


def _open(said: dict[str, str]) -> frozenset[str]:
    always = {name for name, basis in PURPOSES.items() if basis == "contract"}
    granted = {purpose for purpose, state in said.items() if state in GRANTS}
    return frozenset(always | granted)


def _orders(arrived: Iterable[Delivery]) -> dict[int, set[str]]:
    orders: dict[int, set[str]] = {}
    for delivery in arrived:
        if delivery.body.get("event") == ORDER:
            orders.setdefault(delivery.person, set()).add(delivery.message_id)
    return orders
