"""The same command id twice: over conflicts, lost answers, unknown outcomes and restarts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from domain.commands import EraseCustomer, PersonCommand
from domain.errors import Kind
from domain.record import COMMANDS_REMEMBERED_MAX
from domain.replies import Done, Failed
from eventlog.errors import LogUnavailable
from eventlog.memory import MemoryEventLog
from eventlog.port import Entry
from tests.actors.house import (
    CLOCK,
    HandClock,
    Workspace,
    check,
    consent,
    id_of,
    identify,
    loyalty,
    person,
    track,
    traits,
    user,
    workspace,
)

A, B = user("a"), loyalty("b")

COMMANDS: dict[str, Callable[[], PersonCommand]] = {
    "creates": lambda: track("m9", user("new")),
    "identifies": lambda: identify(A, user("new"), traits={"x": 1}),
    "merges": lambda: identify(A, B),
    "sets traits": lambda: traits(A),
    "records signals": lambda: track("m9", A),
    "consents": lambda: consent("given", A),
    "consents, joining": lambda: consent("given", A, B, user("new")),
    "erases": lambda: EraseCustomer(**person((A,), {})),
}


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    async with workspace() as opened:
        await opened.done(track("m1", A))
        await opened.done(track("m2", B))
        yield opened


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_repeated_command_stores_nothing(house: Workspace, name: str) -> None:
    command = COMMANDS[name]()
    first = await house.done(command)
    size = len(await house.events())

    async def again() -> None:
        repeated = await house.done(command)
        assert repeated.customer_id == first.customer_id
        assert repeated.revision == first.revision
        assert len(repeated.signals) == len(first.signals)
        assert len(await house.events()) == size

    await house.both_ways(again)


@pytest.mark.parametrize("name", COMMANDS)
async def test_the_same_command_twice_at_once_is_carried_out_once(
    house: Workspace, name: str
) -> None:
    command = COMMANDS[name]()
    replies = await house.all_done([command] * 5)
    size = len(await house.events())
    assert len({reply.customer_id for reply in replies}) == 1
    assert {reply.revision <= size for reply in replies} == {True}
    assert replies[0].revision > 7
    assert await house.done(command) is not None
    assert len(await house.events()) == size
    assert max((await house.messages()).values()) == 1


@pytest.mark.parametrize(
    "name", ["identifies", "merges", "sets traits", "consents", "consents, joining"]
)
async def test_a_command_that_is_repeated_in_its_own_turn_is_answered_with_its_own_revision(
    house: Workspace, name: str
) -> None:
    command = COMMANDS[name]()
    first, between, again = await house.all_done([command, consent("withdrawn", A), command])
    assert again.revision == first.revision < between.revision
    assert (await house.done(command)).revision == first.revision


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("name", COMMANDS)
async def test_an_unknown_outcome_is_settled_by_the_same_command(
    house: Workspace, name: str, *, stored: bool
) -> None:
    command = COMMANDS[name]()
    before = len(await house.events())
    house.memory.answer_unknown(1, stored=stored)
    reply = await house.router.execute(command)
    assert isinstance(reply, Failed)
    assert (reply.kind, reply.reason) == (Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME")
    assert (len(await house.events()) > before) == stored
    await house.done(command)
    size = len(await house.events())

    async def again() -> None:
        await house.done(command)
        assert len(await house.events()) == size
        assert max((await house.messages()).values()) == 1

    await house.both_ways(again)


@pytest.mark.parametrize("stored", [True, False])
async def test_an_unknown_outcome_is_settled_after_a_restart(
    house: Workspace, *, stored: bool
) -> None:
    command = track("m9", user("new"), loyalty("newer"))
    house.memory.answer_unknown(1, stored=stored)
    assert await house.fails(command) == "UNKNOWN_OUTCOME"
    await house.restart()
    reply = await house.done(command)
    assert reply.customer_id == command.new_record_id
    assert (await house.messages())["m9"] == 1


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_lost_acknowledgement_is_settled_by_the_log(house: Workspace, name: str) -> None:
    command = COMMANDS[name]()
    house.memory.lose_acknowledgements(1)
    first = await house.done(command)
    size = len(await house.events())
    assert first.revision == size
    await house.done(command)
    assert len(await house.events()) == size


async def test_a_command_and_its_repetition_in_one_turn_name_a_real_revision(
    house: Workspace,
) -> None:
    command = consent("given", A)
    replies = await house.all_done([command, command, check(A)])
    assert [reply.revision for reply in replies] == [len(await house.events())] * 3


async def test_a_duplicate_in_one_turn_says_where_the_first_can_be_read(house: Workspace) -> None:
    new = user("new")
    first, second = await house.all_done([track("m9", new), track("m9", new)])
    assert [*first.signals, *second.signals] == ["recorded", "duplicate"]
    assert second.revision == first.revision == len(await house.events())


async def test_a_recorded_check_repeated_is_judged_and_recorded_again(house: Workspace) -> None:
    await house.done(consent("given", A))
    command = check(A, record=True)
    assert (await house.done(command)).verdict is not None
    await house.done(consent("withdrawn", A))
    verdict = (await house.done(command)).verdict
    assert verdict is not None
    assert not verdict.is_open


@pytest.mark.parametrize("much_comes_after", [False, True])
async def test_another_command_under_the_id_is_refused_and_the_first_is_answered_as_before(
    house: Workspace, *, much_comes_after: bool
) -> None:
    command = consent("given", A, seconds=60)
    other = traits(A, command_id=command.command_id, seconds=60)
    first = await house.done(command)
    if much_comes_after:
        await filled(house, 10)
    size = len(await house.events())

    async def again() -> None:
        assert await house.fails(other) == "COMMAND_ID_REUSED"
        assert (await house.done(command)).revision == first.revision
        assert len(await house.events()) == size

    await house.both_ways(again)


async def test_two_commands_under_one_id_at_once_are_not_both_carried_out(
    house: Workspace,
) -> None:
    command = consent("given", A)
    other = traits(A, command_id=command.command_id)
    replies = await house.router.execute_many([command, other])
    assert [reply.outcome for reply in replies] == ["done", "failed"]
    assert await house.fails(other) == "COMMAND_ID_REUSED"
    assert await house.is_open(A)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(hours=23, minutes=59), None),
        (timedelta(hours=24, minutes=1), "COMMAND_TOO_OLD"),
        (timedelta(minutes=-4), None),
        (timedelta(minutes=-6), "INVALID_COMMAND_ID"),
    ],
)
async def test_a_command_id_is_taken_for_a_day(
    house: Workspace, age: timedelta, reason: str | None
) -> None:
    reply = await house.router.execute(traits(A, command_id=id_of(CLOCK.now() - age)))
    assert (reply.reason if isinstance(reply, Failed) else None) == reason


async def test_a_command_id_is_a_uuid_of_version_7(house: Workspace) -> None:
    version_4 = "9b2c8f0e-5d1a-4c3b-8e7f-0a1b2c3d4e5f"
    assert await house.fails(traits(A, command_id=version_4)) == "INVALID_COMMAND_ID"
    beyond_all_calendars = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    assert await house.fails(traits(A, command_id=beyond_all_calendars)) == "INVALID_COMMAND_ID"


async def test_a_command_is_remembered_until_its_id_is_too_old(house: Workspace) -> None:
    clock = HandClock()
    house.clock = clock
    await house.restart()
    command = consent("given", A, seconds=60 * 60 * 24 * 3)
    await house.done(command)
    size = len(await house.events())
    clock.ahead = timedelta(hours=23, minutes=59)
    assert isinstance(await house.done(command), Done)
    assert len(await house.events()) == size
    clock.ahead = timedelta(hours=24, minutes=1)
    assert await house.fails(command) == "COMMAND_TOO_OLD"


async def filled(house: Workspace, more: int) -> None:
    """Send a record more commands than it remembers."""
    commands: list[PersonCommand] = [
        traits(A, seconds=60) for _ in range(COMMANDS_REMEMBERED_MAX + more)
    ]
    for start in range(0, len(commands), 256):
        await house.all_done(commands[start : start + 256])


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_command_is_carried_out_once_however_many_came_after_it(
    house: Workspace, *, restarts: bool
) -> None:
    command = consent("given", A, seconds=60)
    first = await house.done(command)
    await house.done(consent("withdrawn", A))
    await filled(house, 10)
    if restarts:
        await house.restart()
    again = await house.done(command)
    assert again.revision == first.revision
    assert not await house.is_open(A)


async def test_an_old_id_that_stored_nothing_is_decided_though_much_came_after(
    house: Workspace,
) -> None:
    command = consent("withdrawn", A, seconds=60)
    await house.done(consent("given", A))
    await filled(house, 10)
    size = len(await house.events())
    await house.done(command)
    assert len(await house.events()) == size + 1
    assert not await house.is_open(A)


class SilentLog(MemoryEventLog):
    """A log whose streams can be told to be silent beyond what is known of them."""

    is_silent = False

    def read(self, **said: Any) -> AsyncGenerator[list[Entry], None]:
        """Read, or raise."""
        if self.is_silent:
            raise LogUnavailable("nobody answers")
        return super().read(**said)


async def test_while_the_log_cannot_say_whether_it_was_carried_out_nothing_is_decided() -> None:
    log = SilentLog("test")
    async with workspace(log=log) as house:
        await house.done(track("m1", A))
        command = consent("given", A, seconds=60)
        await house.done(command)
        await filled(house, 10)
        size = len(await house.events())
        log.is_silent = True
        soon = command.model_copy(update={"deadline": CLOCK.now() + timedelta(seconds=0.3)})
        assert await house.fails(soon) == "LOG_UNAVAILABLE"
        log.is_silent = False
        await house.done(command)
        assert len(await house.events()) == size


async def test_a_turn_of_the_logs_clock_makes_nobody_forget(house: Workspace) -> None:
    clock = HandClock()
    house.clock = clock
    await house.restart()
    command = consent("given", A, seconds=60)
    await house.done(command)
    clock.recorded_ahead = timedelta(days=40)
    await house.done(consent("withdrawn", A))
    size = len(await house.events())
    await house.done(command)
    assert len(await house.events()) == size
