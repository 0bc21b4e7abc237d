"""A made-up population of whom many ask to be erased: they are gone, and nobody else is (R14)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.intake.identifiers import IdentifierNormaliser
from benchmarks.playing import Play
from domain.commands import PersonCommand
from domain.identity_events import IdentifierTombstoned
from domain.replies import Done, Failed
from examples.population.delivery import Delivery, ends_at, populate
from examples.population.lives import PURPOSES
from examples.population.people import Person, Shares
from examples.population.truth import truth_at
from projections.errors import CustomerErased
from projections.runner import Projector
from projections.store import Store
from projections.views import customer_of, record_holding
from tests.actors.house import CLOCK, Workspace, check
from tests.actors.test_population import AT_ONCE, SECONDS_MAX, project, trouble

PEOPLE = 150
MANY = Shares(shared_devices=0.1, second_accounts=0.1, erasures=0.4, late=0.2, delivered_twice=0.2)
REFUSED = {"IDENTIFIER_ERASED"}
AGAIN = {"UNKNOWN_OUTCOME", "CONFLICT_BUDGET_SPENT"}
WELDED_MAX = 0.05
"""Of those who are not erased, so many may be one customer with somebody who was."""


async def play(house: Workspace, played: Play, deliveries: Sequence[Delivery]) -> None:
    """Send what arrives; of what comes after an erasure some is refused."""
    routers = [house.router, house.new_router()]

    async def until_certain(place: int, command: PersonCommand) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while isinstance(reply := await routers[place % 2].execute(command), Failed):
                if reply.reason in REFUSED:
                    return
                assert reply.reason in AGAIN, reply

    for start in range(0, len(deliveries), AT_ONCE):
        for wave in played.waves(deliveries[start : start + AT_ONCE]):
            await asyncio.gather(*(until_certain(n, command) for n, command in enumerate(wave)))


async def open_of(house: Workspace, played: Play, user_id: str) -> frozenset[str]:
    """Name the purposes that are open for who holds a user's id."""
    who = played.normaliser.normalise("user_id", user_id)
    found = set()
    for purpose in PURPOSES:
        done = await house.done(check(who, purpose=purpose))
        assert isinstance(done, Done)
        assert done.verdict is not None
        if done.verdict.is_open:
            found.add(purpose)
    return frozenset(found)


@pytest.mark.parametrize("seed", [3])
async def test_of_a_population_exactly_those_are_erased_who_asked(
    tmp_path: Path, seed: int
) -> None:
    population = populate(PEOPLE, seed=seed, shares=MANY)
    truths = truth_at(population, ends_at())
    async with trouble(seed) as house:
        played = Play(IdentifierNormaliser(b"a pepper for the tests"), CLOCK)
        await play(house, played, population.deliveries)
        house.link.faults.clear()
        store = Store.open_writer(tmp_path)
        await project(house, store, Projector(house.log, store))
        events = await house.events()
        gone = {e.stream.key for e in events if isinstance(e.body, IdentifierTombstoned)}
        asked = {d.body["user_id"] for d in population.deliveries if d.kind == "erase"}
        assert len(asked) > PEOPLE / 4
        for user_id in asked:
            key = played.normaliser.normalise("user_id", user_id).key
            assert key in gone
            assert not await open_of(house, played, user_id)
            with store.snapshot() as rows, pytest.raises(CustomerErased):
                record_holding(rows, key)
        kept = [p for p in population.people if not truths[p.number].is_erased]
        welded = [p for p in kept if _keys(played, p) & gone]
        assert len(welded) <= WELDED_MAX * len(kept)
        for person in kept:
            if person in welded or len(person.accounts) > 1:
                continue
            open_purposes = await open_of(house, played, person.accounts[0].user_id)
            assert open_purposes == truths[person.number].open_purposes
            key = played.normaliser.normalise("user_id", person.accounts[0].user_id).key
            with store.snapshot() as rows:
                record = record_holding(rows, key)
                assert record is not None
                assert customer_of(rows, record) is not None
        store.close()


def _keys(played: Play, person: Person) -> set[str]:
    named = (played.normaliser.normalise("user_id", a.user_id) for a in person.accounts)
    return {identifier.key for identifier in named}
