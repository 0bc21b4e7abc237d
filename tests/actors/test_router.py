"""The way to a host and back: lost hosts, redirects, deadlines, and batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from actors.channels import BULK_CALLS_AT_ONCE_MAX, CROWD_COMMANDS_MIN, GATHER_SECONDS
from actors.messages import (
    COMMANDS_PER_CALL_MAX,
    decode_commands,
    encode_replies,
    failed,
)
from actors.router import CommandRouter
from domain.commands import DefinePurpose, PersonCommand, RegisterSource
from domain.consent import LawfulBasis
from domain.errors import Kind
from domain.replies import Done, Failed
from tests.actors.house import (
    CLOCK,
    Workspace,
    asked,
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

A, B = user("a"), loyalty("b")


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    async with workspace() as opened:
        yield opened


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_lost_host_is_called_again_with_the_same_command(
    house: Workspace, fault: str
) -> None:
    house.link.faults.extend([fault, fault])
    command = track("m1", A)
    reply = await house.done(command)
    assert house.link.calls == 3
    assert reply.customer_id == command.new_record_id
    assert reply.signals[0] == ("recorded" if fault == "before" else "duplicate")
    assert await house.messages() == {"m1": 1}


@pytest.mark.parametrize("fault", ["before", "after", "never"])
async def test_a_host_that_stays_lost_is_an_unknown_outcome_at_the_deadline(
    house: Workspace, fault: str
) -> None:
    house.link.faults.extend([fault] * 1_000)
    command = track("m1", A, seconds=0.3)
    reply = await house.router.execute(command)
    assert isinstance(reply, Failed)
    assert (reply.kind, reply.reason) == (Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME")
    assert 0 <= (CLOCK.now() - command.deadline).total_seconds() < 5
    house.link.faults.clear()
    await house.done(command.model_copy(update=asked({"command_id": command.command_id})))
    assert await house.messages() == {"m1": 1}


async def test_nobody_says_unavailable_of_what_a_lost_host_may_have_stored(
    house: Workspace,
) -> None:
    await house.done(track("m1", A))
    house.link.faults.append("after")
    sent = asyncio.create_task(house.router.execute(traits(A, seconds=0.4)))
    await eventually(lambda: not house.link.faults)
    house.memory.is_available = False
    for host in house.hosts:
        host._awake.forget(next(iter(host._awake._root_of), A.key))  # type: ignore[arg-type] # any
    reply = await sent
    assert isinstance(reply, Failed)
    assert reply.kind == Kind.UNKNOWN_OUTCOME


async def test_a_reply_that_cannot_be_read_leaves_nobody_waiting(house: Workspace) -> None:
    class Babble:
        async def execute(self, host: int, batch: bytes, **_call: object) -> bytes:
            return b"not json"

    house.link = Babble()  # type: ignore[assignment] # another link
    reply = await house.new_router().execute(track("m1", A, seconds=0.3))
    assert isinstance(reply, Failed)
    assert reply.kind == Kind.UNKNOWN_OUTCOME


async def test_a_deadline_in_the_past_is_not_sent(house: Workspace) -> None:
    assert await house.fails(track("m1", A, seconds=-1)) == "DEADLINE_EXCEEDED"
    assert house.link.calls == 0


class _Held:
    """A link whose calls are answered, with a refusal, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.sent: list[int] = []
        self.at_once = self.most = 0

    async def execute(self, host: int, batch: bytes, **_call: object) -> bytes:  # the protocol's
        commands = decode_commands(batch)
        self.sent.append(len(commands))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return encode_replies(
            [failed(Kind.REFUSED, "HELD", "as the test wants it")] * len(commands)
        )


def held_router(house: Workspace) -> tuple[CommandRouter, _Held]:
    held = _Held()
    house.link = held  # type: ignore[assignment] # another link
    house.placement = type(house.placement)(1)
    return house.new_router(), held


def many(number: int) -> list[PersonCommand]:
    return [track(f"m{n}", user(str(n)), seconds=60) for n in range(number)]


async def test_commands_gather_while_calls_are_in_flight(house: Workspace) -> None:
    router, held = held_router(house)
    waiting = asyncio.create_task(router.execute_many(many(3_000)))
    await eventually(lambda: held.most == BULK_CALLS_AT_ONCE_MAX)
    assert held.sent == [COMMANDS_PER_CALL_MAX] * BULK_CALLS_AT_ONCE_MAX
    held.gate.set()
    replies = await waiting
    assert held.most == BULK_CALLS_AT_ONCE_MAX
    assert {reply.reason for reply in replies if isinstance(reply, Failed)} == {"HELD"}


async def test_a_few_commands_wait_for_a_call_in_flight_but_not_for_ever(house: Workspace) -> None:
    router, held = held_router(house)
    waiting = [asyncio.create_task(router.execute_many(many(10)))]
    await eventually(lambda: held.sent == [10])
    begun = monotonic()
    waiting += [asyncio.create_task(router.execute_many(many(10))) for _ in range(2)]
    await eventually(lambda: held.sent == [10, 20])
    assert monotonic() - begun >= GATHER_SECONDS
    held.gate.set()
    await asyncio.gather(*waiting)
    assert held.sent == [10, 20]


async def test_a_crowd_goes_beside_a_call_at_once(
    house: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.channels.GATHER_SECONDS", 60.0)
    router, held = held_router(house)
    waiting = [asyncio.create_task(router.execute_many(many(10)))]
    await eventually(lambda: held.sent == [10])
    crowd = CROWD_COMMANDS_MIN
    waiting.append(asyncio.create_task(router.execute_many(many(crowd))))
    await eventually(lambda: held.sent == [10, crowd])
    held.gate.set()
    await asyncio.gather(*waiting)


async def test_a_router_that_knows_an_old_root_follows_the_move(house: Workspace) -> None:
    other = house.new_router()
    first = await house.done(track("m1", A))
    second = await house.done(track("m2", B))
    assert isinstance(await other.execute(traits(A)), Done)
    assert isinstance(await other.execute(traits(B)), Done)
    root = (await house.done(identify(A, B))).customer_id
    commands: list[PersonCommand] = [traits(A), traits(B), check(A, B)]
    commands += [traits(record_id=old.customer_id) for old in (first, second)]
    for reply in await other.execute_many(commands):
        assert isinstance(reply, Done)
        assert reply.customer_id == root


async def test_replies_are_aligned_with_commands(house: Workspace) -> None:
    names = [user(str(n)) for n in range(50)]
    commands = [track(f"m{n}", name) for n, name in enumerate(names)]
    for command, reply in zip(commands, await house.all_done(list(commands)), strict=True):
        assert reply.customer_id == command.new_record_id


async def test_a_source_registered_a_moment_ago_is_known_to_every_host(house: Workspace) -> None:
    assert await house.fails(track("m1", A, source="fresh")) == "UNKNOWN_SOURCE"
    assert await house.fails(consent("given", A, purpose="news")) == "UNKNOWN_PURPOSE"
    await house.rules.execute(
        DefinePurpose(**asked({}), purpose="news", basis=LawfulBasis.CONTRACT)
    )
    await house.rules.execute(RegisterSource(**asked({}), source="fresh", purposes=("news",)))
    names = [user(str(n)) for n in range(20)]
    replies = await house.all_done(
        [track(f"m{name.value}", name, source="fresh") for name in names]
    )
    assert {reply.signals[0] for reply in replies} == {"recorded"}
    await house.done(consent("refused", A, purpose="news"))
    assert await house.is_open(A, purpose="news")
