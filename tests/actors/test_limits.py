"""Every limit of a host, on both sides: turns, appends, the inbox, sleep, deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.host import HostLimits
from actors.messages import Routed
from actors.rounds import COMMANDS_PER_TURN_MAX
from domain.commands import PersonCommand
from domain.ids import EVENTS_PER_APPEND_MAX, RecordId
from domain.replies import Done, Failed, Reply
from tests.actors.house import (
    Workspace,
    check,
    consent,
    eventually,
    identify,
    loyalty,
    track,
    traits,
    user,
    workspace,
)
from tests.actors.logs import WatchedLog

A, B = user("a"), loyalty("b")


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    async with workspace(log=WatchedLog(), hosts_wanted=1) as opened:
        yield opened


def watched(house: Workspace) -> WatchedLog:
    assert isinstance(house.log, WatchedLog)
    return house.log


async def at_once(house: Workspace, commands: list[PersonCommand], root: str) -> list[Reply]:
    """Send commands on one customer to the host in one call."""
    owner = RecordId(root)
    batch = [
        Routed(command=c, owners={item.key: owner for item in c.identifiers}) for c in commands
    ]
    return await house.hosts[0].execute(batch)


@pytest.mark.parametrize(("commands", "turns"), [(64, [64]), (65, [64, 1]), (200, [64, 64, 64, 8])])
async def test_a_turn_takes_64_commands_and_no_more(
    house: Workspace, commands: int, turns: list[int]
) -> None:
    assert COMMANDS_PER_TURN_MAX == 64
    root = str((await house.done(track("m1", A))).customer_id)
    watched(house).attempts.clear()
    replies = await at_once(house, [traits(A) for _ in range(commands)], root)
    assert all(isinstance(reply, Done) for reply in replies)
    assert [len(attempt.drafts) for attempt in watched(house).attempts] == turns
    revisions = [reply.revision for reply in replies if isinstance(reply, Done)]
    assert revisions == sorted(set(revisions))


async def test_an_append_holds_1000_events_and_what_finds_no_room_costs_no_try() -> None:
    log = WatchedLog()
    async with workspace(log=log, hosts_wanted=1, limits=HostLimits(tries_max=1)) as house:
        names = [user(str(n)) for n in range(240)]
        await house.all_done([track(f"m{n}", name) for n, name in enumerate(names)])
        root = str((await house.done(identify(*names))).customer_id)
        log.attempts.clear()
        states = ["given", "withdrawn"] * 12
        replies = await at_once(house, [consent(s, names[7]) for s in states], root)
        assert [getattr(reply, "reason", None) for reply in replies] == [None] * 24
        assert [len(attempt.drafts) for attempt in log.attempts] == [960] * 6
        assert max(len(a.drafts) for a in log.attempts) <= EVENTS_PER_APPEND_MAX
        assert not await house.is_open(names[3])
        await house.restart()
        assert not await house.is_open(names[200])


@pytest.mark.parametrize("place", [0, 3, 6])
async def test_what_the_log_refuses_costs_no_other_command_of_the_turn(
    house: Workspace, place: int
) -> None:
    root = str((await house.done(track("m1", A))).customer_id)
    commands: list[PersonCommand] = [track(f"x{n}", A) for n in range(6)]
    commands.insert(place, traits(A, traits={"n": 2**70}))
    replies = await at_once(house, [*commands, check(A, purpose="service")], root)
    reasons = [getattr(reply, "reason", None) for reply in replies]
    assert reasons == [None] * place + ["EVENT_NOT_ENCODABLE"] + [None] * (7 - place)
    assert await house.messages() == {"m1": 1, **{f"x{n}": 1 for n in range(6)}}
    large: list[PersonCommand] = [traits(A, traits={"text": "x" * 1_100_000}), track("y1", A)]
    replies = await at_once(house, large, root)
    assert [getattr(r, "reason", None) for r in replies] == ["EVENT_TOO_LARGE", None]
    assert (await house.messages())["y1"] == 1


async def test_a_refused_turn_keeps_the_order_of_the_others(house: Workspace) -> None:
    root = str((await house.done(consent("given", A))).customer_id)
    order = ["withdrawn", "given", "withdrawn"]
    commands: list[PersonCommand] = [consent(state, A) for state in order]
    commands.insert(2, traits(A, traits={"n": 2**70}))
    await at_once(house, commands, root)
    revisions = [e.command_id for e in await house.events()][-3:]
    assert revisions == [c.command_id for c in commands if c.kind == "record_consent"]
    assert not await house.is_open(A)


async def test_the_inbox_has_a_limit() -> None:
    log = WatchedLog()
    limits = HostLimits(inbox_commands_max=10)
    async with workspace(log=log, hosts_wanted=1, limits=limits) as house:
        replies = await at_once(house, [track(f"m{n}", user(str(n))) for n in range(11)], A.key)
        reasons = [getattr(reply, "reason", None) for reply in replies]
        assert reasons.count("HOST_OVERLOADED") == 1
        assert reasons[-1] == "HOST_OVERLOADED"
        assert (await house.done(track("again", A))).created


async def test_commands_behind_a_slow_turn_count_as_waiting() -> None:
    log = WatchedLog()
    limits = HostLimits(inbox_commands_max=10)
    async with workspace(log=log, hosts_wanted=1, limits=limits) as house:
        root = str((await house.done(track("m1", A))).customer_id)
        log.gate.clear()
        log.attempts.clear()
        slow = asyncio.create_task(at_once(house, [traits(A)], root))
        await eventually(lambda: len(log.attempts) == 1)
        more: list[PersonCommand] = [traits(A) for _ in range(10)]
        behind = asyncio.create_task(at_once(house, more, root))
        await eventually(lambda: house.hosts[0].status()["commands_waiting"] == 10)
        await eventually(lambda: not house.hosts[0]._commands.inbox)
        (refused,) = await at_once(house, [track("m2", B)], root)
        assert getattr(refused, "reason", None) == "HOST_OVERLOADED"
        log.gate.set()
        for replies in await asyncio.gather(slow, behind):
            assert all(isinstance(reply, Done) for reply in replies)
        assert house.hosts[0].status()["commands_waiting"] == 0


async def test_one_slow_customer_holds_up_nobody_else() -> None:
    log = WatchedLog()
    async with workspace(log=log, hosts_wanted=1) as house:
        root = str((await house.done(track("m1", A))).customer_id)
        await house.done(consent("given", B))
        log.gate.clear()
        log.attempts.clear()
        slow = asyncio.create_task(at_once(house, [traits(A)], root))
        await eventually(lambda: len(log.attempts) == 1)
        assert await house.is_open(B)
        assert not slow.done()
        log.gate.set()
        await slow


async def test_a_command_does_not_wait_for_bulk_on_its_customer_to_rest(
    house: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str((await house.done(track("m1", A))).customer_id)
    monkeypatch.setattr("eventlog.commit_queue.REST_SECONDS_MAX", 60.0)
    monkeypatch.setattr("eventlog.commit_queue.RESTS_PER_FLIGHT", 10**9)
    before, signal = (
        Routed(command=track(message_id, A), owners={A.key: RecordId(root)})
        for message_id in ("m2", "m3")
    )
    await house.hosts[0].execute_bulk([before])
    await eventually(lambda: not house.hosts[0]._keeper.is_busy(root))
    bulk = asyncio.create_task(house.hosts[0].execute_bulk([signal]))
    await eventually(lambda: house.hosts[0]._keeper.is_busy(root))
    async with asyncio.timeout(5.0):
        (reply,) = await at_once(house, [traits(A)], root)
        await bulk
    assert isinstance(reply, Done)


async def test_a_command_past_its_deadline_is_dropped_unread(house: Workspace) -> None:
    size = len(await house.events())
    command = track("m1", A, seconds=-1)
    (reply,) = await house.hosts[0].execute([Routed(command=command, owners={})])
    assert isinstance(reply, Failed)
    assert reply.reason == "DEADLINE_EXCEEDED"
    assert await house.fails(track("m2", A, seconds=-1)) == "DEADLINE_EXCEEDED"
    assert len(await house.events()) == size


async def test_a_command_that_waited_past_its_deadline_is_dropped_too() -> None:
    log = WatchedLog()
    async with workspace(log=log, hosts_wanted=1) as house:
        root = str((await house.done(track("m1", A))).customer_id)
        log.gate.clear()
        log.attempts.clear()
        slow = asyncio.create_task(at_once(house, [traits(A)], root))
        await eventually(lambda: len(log.attempts) == 1)
        late = traits(A, seconds=0.05)
        waiting = asyncio.create_task(at_once(house, [late], root))
        await eventually(lambda: house.hosts[0]._clock.now() > late.deadline)
        log.gate.set()
        (reply,) = await waiting
        assert getattr(reply, "reason", None) == "DEADLINE_EXCEEDED"
        await slow


async def test_the_least_recently_used_over_the_cap_sleep_and_wake_as_they_were() -> None:
    limits = HostLimits(customers_max=3, sweep_every_seconds=0.01)
    async with workspace(hosts_wanted=1, limits=limits) as house:
        names = [user(str(n)) for n in range(10)]
        for name in names:
            await house.done(consent("given", name))
        await eventually(lambda: house.hosts[0].status()["awake_customers"] == 3)
        assert [await house.is_open(name) for name in names] == [True] * 10
        await house.all_done([track(f"m{n}", name) for n, name in enumerate(names)])
        await eventually(lambda: house.hosts[0].status()["awake_customers"] == 3)
        replies = await house.all_done([track(f"m{n}", name) for n, name in enumerate(names)])
        assert {reply.signals[0] for reply in replies} == {"duplicate"}


async def test_who_is_idle_sleeps_and_wakes_as_before() -> None:
    limits = HostLimits(idle_seconds=0.0, sweep_every_seconds=0.01)
    async with workspace(hosts_wanted=1, limits=limits) as house:
        root = (await house.done(consent("given", A))).customer_id
        await eventually(lambda: house.hosts[0].status()["awake_customers"] == 0)
        assert await house.is_open(A)
        await eventually(lambda: house.hosts[0].status()["awake_customers"] == 0)
        assert (await house.done(traits(record_id=root))).customer_id == root
        assert (await house.done(track("m1", A))).customer_id == root


async def test_who_has_a_turn_does_not_fall_asleep() -> None:
    log = WatchedLog()
    limits = HostLimits(idle_seconds=0.0, sweep_every_seconds=0.001)
    async with workspace(log=log, hosts_wanted=1, limits=limits) as house:
        root = str((await house.done(track("m1", A))).customer_id)
        log.gate.clear()
        log.attempts.clear()
        slow = asyncio.create_task(at_once(house, [traits(record_id=root)], root))
        await eventually(lambda: len(log.attempts) == 1)
        awake = house.hosts[0]._awake
        for _ in range(5):
            house.hosts[0]._passivate()
            assert awake.root_of(RecordId(root)) == root
        log.gate.set()
        (reply,) = await slow
        assert isinstance(reply, Done)


async def test_somebody_unknown_is_not_kept_awake(house: Workspace) -> None:
    assert await house.customer_of(A) is None
    missing = "00000000-0000-7000-8000-000000000000"
    assert await house.fails(traits(record_id=missing)) == "UNKNOWN_CUSTOMER"
    assert house.hosts[0].status()["awake_customers"] == 0
