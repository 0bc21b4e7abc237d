"""Expected revisions under concurrency: of what expects the same, one is carried out (R1)."""

from __future__ import annotations

import asyncio

import pytest

from actors.messages import Routed
from domain.commands import LinkHousehold, MergeCustomers, PersonCommand
from domain.event import Event, Recorded
from domain.identity import Identifier
from domain.identity_events import CustomersMerged
from domain.replies import Done, Failed, Reply
from domain.signal_events import TraitsSet
from eventlog.memory import MemoryEventLog
from tests.actors.house import (
    CLOCK,
    Workspace,
    check,
    consent,
    identify,
    loyalty,
    person,
    track,
    traits,
    user,
    workspace,
)
from tests.actors.logs import JitteryLog

A, B, C = user("a"), loyalty("b"), user("c")
WRITERS = 12


async def settled(house: Workspace, command: PersonCommand) -> Done | Failed:
    """Ask until it is known what became of a command, by a router that knows nothing yet."""
    router = house.new_router()
    async with asyncio.timeout(30):
        while True:
            reply = await router.execute(command)
            if isinstance(reply, Done) or reply.reason == "CUSTOMER_CHANGED":
                return reply
            assert reply.reason in {"UNKNOWN_OUTCOME", "CONFLICT_BUDGET_SPENT"}, reply


async def merged(house: Workspace, *identifiers: Identifier) -> int:
    """Make one customer, of as many records as there are identifiers; give its revision."""
    done = [await house.done(identify(item)) for item in identifiers]
    for other in done[1:]:
        named = {"record_id": done[0].customer_id, "other_record_id": other.customer_id}
        done.append(await house.done(MergeCustomers(**person((), named))))
    return done[-1].revision


def counted(events: list[Recorded[Event]]) -> int:
    """Read what the counter of everybody stands at, in the order of the log."""
    said = [event.body.traits.get("n") for event in events if isinstance(event.body, TraitsSet)]
    return next((n for n in reversed(said) if isinstance(n, int)), 0)


@pytest.mark.parametrize("seed", range(4))
async def test_no_update_is_lost_whichever_record_and_host_it_goes_to(seed: int) -> None:
    log = JitteryLog(seed)
    async with workspace(log=log, doubled=True) as house:
        await merged(house, A, B, C)
        log.trouble = 0.2

        async def add_one(number: int) -> None:
            who = (A, B, C)[number % 3]
            while True:
                events = await house.events()
                seen, revision = counted(events), events[-1].revision
                command = traits(who, traits={"n": seen + 1}, expected_revision=revision)
                reply = await settled(house, command)
                if isinstance(reply, Done):
                    return
                assert reply.current_revision is not None
                assert reply.current_revision > revision

        async def make_noise(number: int) -> None:
            await settled(house, track(f"m{number}", (A, B, C)[number % 3]))

        await asyncio.gather(*map(add_one, range(WRITERS)), *map(make_noise, range(WRITERS)))
        log.trouble = 0.0
        events = await house.events()
        assert counted(events) == WRITERS
        assert sum(isinstance(event.body, TraitsSet) for event in events) == WRITERS


@pytest.mark.parametrize("doubled", [False, True])
async def test_of_those_who_expect_the_same_one_is_carried_out(*, doubled: bool) -> None:
    async with workspace(doubled=doubled) as house:
        revision = await merged(house, A, B)
        household = {"household_id": CLOCK.new_id(), "happened_at": CLOCK.now()}
        said = {"expected_revision": revision}
        commands: list[PersonCommand] = [
            *(traits((A, B)[n % 2], traits={"n": n}, **said) for n in range(6)),
            *(identify((A, B)[n % 2], traits={"n": n}, **said) for n in range(6)),
            consent("given", A, **said),
            LinkHousehold(**person((B,), {"source": "shop", **household, **said})),
        ]
        at_once = await house.router.execute_many(commands)
        won = [reply for reply in at_once if isinstance(reply, Done)]
        lost = [reply for reply in at_once if isinstance(reply, Failed)]
        assert len(won) == 1
        assert {reply.reason for reply in lost} == {"CUSTOMER_CHANGED"}
        assert {reply.current_revision for reply in lost} == {won[0].revision}

        async def again() -> None:
            replies = [await house.router.execute(command) for command in commands]
            assert [r.revision for r in replies if isinstance(r, Done)] == [won[0].revision]

        await house.both_ways(again)


@pytest.mark.parametrize("seed", range(4))
async def test_of_merges_that_expect_the_same_one_is_made(seed: int) -> None:
    log = JitteryLog(seed)
    async with workspace(log=log, doubled=True) as house:
        revisions = [await merged(house, item) for item in (A, B, C)]
        ids = [await house.customer_of(item) for item in (A, B, C)]
        log.trouble = 0.2
        pairs = [(0, 1), (1, 2), (2, 0)] * 2
        commands = [
            MergeCustomers(
                **person((), {"record_id": ids[one], "other_record_id": ids[other]}),
                expected_revision=max(revisions),
            )
            for one, other in pairs
        ]
        replies = await asyncio.gather(*(settled(house, command) for command in commands))
        log.trouble = 0.0
        assert sum(isinstance(reply, Done) for reply in replies) == 1
        assert await house.count(CustomersMerged) == 2


async def test_of_those_who_expect_nobody_one_creates() -> None:
    async with workspace(doubled=True) as house:
        commands = [identify(A, expected_revision=0) for _ in range(8)]
        replies = await asyncio.gather(*(settled(house, command) for command in commands))
        assert [r.created for r in replies if isinstance(r, Done)] == [True]


async def test_an_outcome_that_was_not_known_is_told_and_is_no_mismatch() -> None:
    log = MemoryEventLog("test")
    async with workspace(log=log) as house:
        revision = await merged(house, A, B)
        command = traits(A, expected_revision=revision)
        log.answer_unknown(1, stored=True)
        assert await house.fails(command) == "UNKNOWN_OUTCOME"
        await house.done(traits(B))

        async def again() -> None:
            assert (await house.done(command)).revision == revision + 2

        await house.both_ways(again)


async def through(house: Workspace, host: int, command: PersonCommand) -> Reply:
    """Ask one host."""
    (reply,) = await house.hosts[host].execute([Routed(command=command, owners={})])
    return reply


async def test_a_host_does_not_overlook_what_another_one_has_changed() -> None:
    async with workspace(doubled=True) as house:
        revision = await merged(house, A, B)
        for host in (0, 1):  # both hold the customer from then on
            assert isinstance(await through(house, host, check(A)), Done)
        changed = await through(house, 1, traits(B))
        assert isinstance(changed, Done)
        stale = await through(house, 0, traits(A, expected_revision=revision))
        assert isinstance(stale, Failed)
        assert (stale.reason, stale.current_revision) == ("CUSTOMER_CHANGED", changed.revision)


async def test_a_host_does_not_overlook_it_where_nothing_would_be_stored() -> None:
    async with workspace(doubled=True) as house:
        await merged(house, A, B)
        linking = {"source": "shop", "household_id": CLOCK.new_id(), "happened_at": CLOCK.now()}
        linked = await through(house, 0, LinkHousehold(**person((A,), linking)))
        assert isinstance(linked, Done)
        changed = await through(house, 1, traits(B))
        assert isinstance(changed, Done)
        asked_again = {**linking, "expected_revision": linked.revision}
        stale = await through(house, 0, LinkHousehold(**person((A,), asked_again)))
        assert isinstance(stale, Failed)
        assert (stale.reason, stale.current_revision) == ("CUSTOMER_CHANGED", changed.revision)
