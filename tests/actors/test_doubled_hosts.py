"""Two hosts that both believe to own everything, two routers: slow perhaps, never wrong (R1)."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from actors.host import HostLimits
from actors.messages import Routed
from domain.commands import PersonCommand
from domain.identity_events import CustomersMerged, IdentifierClaimed
from domain.ids import RecordId
from domain.replies import Done, Failed
from tests.actors.house import (
    Workspace,
    consent,
    identify,
    loyalty,
    track,
    traits,
    user,
    workspace,
)
from tests.actors.logs import JitteryLog, WatchedLog

A, B = user("a"), loyalty("b")


async def until_done(house: Workspace, command: PersonCommand) -> None:
    """Ask again, under the same id, as callers do who get no certain answer."""
    async with asyncio.timeout(30):
        router = house.new_router()
        while isinstance(reply := await router.execute(command), Failed):
            assert reply.reason in {"UNKNOWN_OUTCOME", "CONFLICT_BUDGET_SPENT"}, reply


@pytest.mark.parametrize("seed", range(6))
async def test_many_writers_of_the_same_new_identifiers_make_one_customer(seed: int) -> None:
    log = JitteryLog(seed)
    async with workspace(log=log, doubled=True, in_bulk=seed % 2 == 1) as house:
        log.trouble = 0.2
        commands = [track(f"m{n}", *((A, B), (A,), (B, A))[n % 3]) for n in range(60)]
        commands.append(track("m60", B, A))
        await asyncio.gather(*(until_done(house, command) for command in commands))
        await until_done(house, identify(A, B))
        log.trouble = 0.0

        async def again() -> None:
            assert await house.customer_of(A) == await house.customer_of(B)
            assert await house.customer_of(A) is not None
            assert await house.count(IdentifierClaimed) == 2
            assert await house.messages() == {f"m{n}": 1 for n in range(61)}

        await house.both_ways(again)


@pytest.mark.parametrize("seed", range(4))
async def test_each_command_through_two_routers_at_once_is_carried_out_once(seed: int) -> None:
    log = JitteryLog(seed)
    async with workspace(log=log, doubled=True, in_bulk=seed % 2 == 1) as house:
        log.trouble = 0.3
        people = [user(str(n)) for n in range(4)]
        commands: list[PersonCommand] = [
            track(f"m{n}", people[n % 4], loyalty(str(n % 6))) for n in range(30)
        ]
        commands += [consent("given", people[n]) for n in range(4)]
        commands += [identify(people[0], people[1]), identify(people[2], people[3])]
        twice = [*commands, *commands]
        await asyncio.gather(*(until_done(house, command) for command in twice))
        log.trouble = 0.0

        async def again() -> None:
            assert set((await house.messages()).values()) == {1}
            assert len(await house.messages()) == 30
            claims = [e for e in await house.events() if isinstance(e.body, IdentifierClaimed)]
            assert len({event.stream for event in claims}) == len(claims) == 10
            decisions = {
                (e.command_id, e.decision_id)
                for e in await house.events()
                if e.command_id in {command.command_id for command in commands}
            }
            assert len({command_id for command_id, _ in decisions}) == len(decisions)

        await house.both_ways(again)


@pytest.mark.parametrize("seed", range(4))
async def test_merges_from_two_sides_at_once_end_in_one_customer(seed: int) -> None:
    in_bulk = seed % 2 == 1
    async with workspace(log=JitteryLog(seed), doubled=True, in_bulk=in_bulk) as house:
        people = [user(str(n)) for n in range(6)]
        await house.all_done([track(f"m-{person.value}", person) for person in people])
        pairs = list(pairwise(people))
        await asyncio.gather(*(until_done(house, identify(*pair)) for pair in pairs))

        async def again() -> None:
            assert len({await house.customer_of(person) for person in people}) == 1
            merges = {
                edge.merge_id
                for event in await house.events()
                if isinstance(event.body, CustomersMerged)
                for edge in event.body.edges
            }
            assert len(merges) == 5

        await house.both_ways(again)


async def test_a_conflict_is_decided_again_on_what_the_other_stored() -> None:
    log = WatchedLog()
    async with workspace(log=log, doubled=True) as house:
        await house.done(track("m1", A))
        log.conflicts = 1
        reply = await house.done(identify(A, B))
        assert len(log.attempts[-2].drafts) == len(log.attempts[-1].drafts)
        assert reply.revision == len(await house.events())


@pytest.mark.parametrize(("conflicts", "reason"), [(3, None), (4, "CONFLICT_BUDGET_SPENT")])
async def test_conflicts_are_retried_within_a_budget(conflicts: int, reason: str | None) -> None:
    log = WatchedLog()
    async with workspace(log=log, limits=HostLimits(tries_max=3)) as house:
        await house.done(track("m1", A))
        before = len(log.attempts)
        log.conflicts = conflicts
        reply = await house.router.execute(traits(A))
        assert (reply.reason if isinstance(reply, Failed) else None) == reason
        assert len(log.attempts) - before == 4
        log.conflicts = 0
        assert (await house.done(track("m1", A))).signals[0] == "duplicate"


async def test_a_customer_of_another_host_has_moved() -> None:
    async with workspace() as house:
        names = [user(str(n)) for n in range(20)]
        replies = await house.all_done([track(f"m{n}", name) for n, name in enumerate(names)])
        owners = {house.placement.host_of(str(reply.customer_id)) for reply in replies}  # type: ignore[arg-type] # ids
        assert owners == {0, 1}
        for one, other in pairwise(names):
            await house.done(identify(one, other))
        oldest = min(str(reply.customer_id) for reply in replies)
        strangers = house.new_router()
        for name in names:
            reply = await strangers.execute(traits(name))
            assert getattr(reply, "customer_id", None) == oldest
        for old in replies:
            reply = await house.new_router().execute(traits(record_id=old.customer_id))
            assert getattr(reply, "customer_id", None) == oldest


async def test_who_was_changed_elsewhere_costs_those_who_share_a_turn_nothing() -> None:
    log = WatchedLog()
    async with workspace(log=log, doubled=True, in_bulk=True) as house:
        people = [user(str(number)) for number in range(50)]
        first = await house.all_done([track(f"a{p.value}", p) for p in people])
        for person, reply in list(zip(people, first, strict=True))[::10]:
            record_id = RecordId(str(reply.customer_id))
            other = house.hosts[1 - house.placement.host_of(record_id)]
            routed = Routed(track(f"c{person.value}", person), {person.key: record_id})
            (stored,) = await other.execute([routed])
            assert isinstance(stored, Done)
        log.attempts.clear()
        second = await house.all_done([track(f"b{p.value}", p) for p in people])
        assert sum(len(attempt.drafts) for attempt in log.attempts) > len(people)
        assert [reply.customer_id for reply in second] == [reply.customer_id for reply in first]
        changed = [f"c{person.value}" for person in people[::10]]
        wanted = [*changed, *(f"{turn}{p.value}" for turn in "ab" for p in people)]
        assert await house.messages() == Counter(wanted)
