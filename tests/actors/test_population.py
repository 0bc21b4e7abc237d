"""A made-up population through hosts that are doubled and lose answers: what is known is the truth.

Who is whom is compared with an independent closure over the log, everything about people with what
the generator knows. Nothing of the expected side comes from Koseki.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from actors.intake.identifiers import IdentifierNormaliser
from benchmarks.playing import Play
from domain.commands import DefinePurpose, PersonCommand, RegisterSource
from domain.consent import LawfulBasis
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.ids import RecordId
from domain.replies import Failed
from examples.population.closure import Closure, Namespace
from examples.population.delivery import STARTS_AT, Delivery, Population, ends_at, populate
from examples.population.lives import ORDER, PURPOSES, SOURCES
from examples.population.people import Shares
from examples.population.truth import truth_at
from projections.runner import Projector
from projections.store import Store
from projections.views import CustomerView, customer_view
from tests.actors.house import CLOCK, Workspace, asked, workspace
from tests.actors.logs import JitteryLog

PEOPLE = 200
HARD = Shares(
    shared_devices=0.1,
    second_accounts=0.15,
    mistyped_emails=0.1,
    erasures=0.0,
    late=0.2,
    delivered_twice=0.2,
)
RULES = tuple(Namespace(n.name, n.values_max) for n in DEFAULT_IDENTITY_RULES.namespaces)
INSTANTS = (STARTS_AT + timedelta(days=25), STARTS_AT + timedelta(days=60), ends_at())
AT_ONCE = 500
FAULTS = ("before", "after")
FAULTY = 0.03
SECONDS_MAX = 60.0


@asynccontextmanager
async def trouble(seed: int) -> AsyncIterator[Workspace]:
    """Open a workspace with the population's rules where answers are lost and hosts doubled."""
    log = JitteryLog(seed)
    in_bulk, rules = seed % 2 == 1, DEFAULT_IDENTITY_RULES
    async with workspace(log=log, doubled=True, in_bulk=in_bulk, identity=rules) as house:
        for name, basis in PURPOSES.items():
            said = DefinePurpose(**asked({}), purpose=name, basis=LawfulBasis(basis))
            await house.rules.execute(said)
        for source, purposes in SOURCES.items():
            await house.rules.execute(RegisterSource(**asked({}), source=source, purposes=purposes))
        await house.restart()
        die = random.Random(seed)
        house.link.faults.extend(
            die.choice(FAULTS) if die.random() < FAULTY else "" for _ in range(5_000)
        )
        log.trouble = FAULTY
        yield house


async def play(house: Workspace, played: Play, deliveries: Sequence[Delivery]) -> None:
    """Send what arrives, each command to either host until a certain answer comes."""
    routers = [house.router, house.new_router()]

    async def until_done(place: int, command: PersonCommand) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while isinstance(reply := await routers[place % 2].execute(command), Failed):
                assert reply.reason in {"UNKNOWN_OUTCOME", "CONFLICT_BUDGET_SPENT"}, reply

    arriving = iter(deliveries)
    while some := list(islice(arriving, AT_ONCE)):
        for wave in played.waves(some):
            await asyncio.gather(*(until_done(n, command) for n, command in enumerate(wave)))


async def project(house: Workspace, store: Store, projector: Projector) -> None:
    """Fold what is in the log so far."""
    running = asyncio.create_task(projector.run())
    last = (await house.log.shape()).last_revision
    await projector.wait_for(last, timeout_seconds=SECONDS_MAX)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.checkpoint.revision == last


def alone(closure: Closure, arrived: Sequence[Delivery]) -> dict[int, str]:
    """Name the customer of each person who is one, with nobody else's messages."""
    customers: defaultdict[int, set[str]] = defaultdict(set)
    people: defaultdict[str, set[int]] = defaultdict(set)
    for delivery in arrived:
        customer = closure.customer_of_message(delivery.message_id)
        customers[delivery.person].add(customer)
        people[customer].add(delivery.person)
    return {
        person: next(iter(found))
        for person, found in customers.items()
        if len(found) == 1 and people[next(iter(found))] == {person}
    }


def orders_of(view: CustomerView) -> int:
    return sum(tally.count for tally in view.tallies if tally.name == ORDER)


def check_customers(
    views: dict[str, CustomerView],
    closure: Closure,
    played: Play,
    *,
    arrived: Sequence[Delivery],
) -> None:
    """Require of every customer the identifiers and the orders that the closure gives it."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    for (namespace, value), customer in closure.identifiers().items():
        held[customer].add(played.normaliser.normalise(namespace, value).key)
    orders: Counter[str] = Counter()
    for delivery in {d.message_id: d for d in arrived}.values():
        is_order = delivery.body.get("event") == ORDER
        orders[closure.customer_of_message(delivery.message_id)] += is_order
    assert views.keys() == orders.keys()
    for customer, view in views.items():
        assert view.customer_id == customer
        assert {known.key for known in view.identifiers} == held[customer]
        assert orders_of(view) == orders[customer]


def check_people(
    population: Population,
    instant: datetime,
    customers: dict[int, str],
    views: dict[str, CustomerView],
) -> None:
    """Require of every person who is one customer what the generator knows of them."""
    truths = truth_at(population, instant)
    for person, customer in customers.items():
        view, truth = views[customer], truths[person]
        open_purposes = {c.purpose.name for c in view.consents if c.standing.is_open}
        assert open_purposes == truth.open_purposes
        assert orders_of(view) == truth.orders


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_message_consent_and_order_of_a_population_is_whose_it_is(
    tmp_path: Path, seed: int
) -> None:
    population = populate(PEOPLE, seed=seed, shares=HARD)
    store = Store.open_writer(tmp_path)
    async with trouble(seed) as house:
        normaliser = IdentifierNormaliser(b"a pepper for the tests")
        played, begun = Play(normaliser, CLOCK), STARTS_AT - timedelta(seconds=1)
        projector = Projector(house.log, store)
        for instant in INSTANTS:
            fresh = [d for d in population.deliveries if begun < d.delivered_at <= instant]
            await play(house, played, fresh)
            await project(house, store, projector)
            arrived = [d for d in population.deliveries if d.delivered_at <= instant]
            closure = Closure(RULES)
            played.retell(await house.events(), closure)
            with store.snapshot() as rows:
                names = {closure.customer_of_message(d.message_id) for d in arrived}
                found = {name: customer_view(rows, RecordId(name), "audit") for name in names}
            views = {name: view for name, view in found.items() if view is not None}
            assert len(views) == len(names)
            check_customers(views, closure, played, arrived=arrived)
            customers = alone(closure, arrived)
            assert len(customers) > 0.5 * len({d.person for d in arrived})
            check_people(population, instant, customers, views)
            begun = instant
        assert set((await house.messages()).values()) == {1}
    store.close()
