"""What must not happen: a yes that is stale, unread or unsure (R3, R10, R13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.host import HostLimits
from actors.messages import Routed
from domain.commands import CheckConsent, DefinePurpose, PersonCommand
from domain.consent import LawfulBasis
from domain.consent_events import ConsentWithdrawn, VerdictRecorded
from domain.errors import Kind
from domain.event import Event
from domain.identity_events import IdentifierClaimed
from domain.ids import RecordId
from domain.replies import Done, Failed, Reply
from tests.actors.house import (
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
from tests.actors.logs import LaggingLog, WatchedLog

A, B, C = user("a"), loyalty("b"), user("c")


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    async with workspace(log=WatchedLog(), doubled=True) as opened:
        yield opened


async def ask(house: Workspace, host: int, command: PersonCommand, **owners: str | None) -> Reply:
    """Send a command to one host, with the owners that a router believes in."""
    keys = {item.value: item.key for item in command.identifiers}
    known = {keys[value]: RecordId(str(record)) for value, record in owners.items()}
    (reply,) = await house.hosts[host].execute([Routed(command=command, owners=known)])
    return reply


def says_yes(reply: Reply) -> bool:
    return isinstance(reply, Done) and reply.verdict is not None and reply.verdict.is_open


async def last_revision(house: Workspace, event: type[Event]) -> int:
    return max(e.revision for e in await house.events() if isinstance(e.body, event))


async def test_a_host_that_slept_through_a_withdrawal_does_not_say_yes(house: Workspace) -> None:
    root = (await house.done(consent("given", A))).customer_id
    assert says_yes(await ask(house, 0, check(A), a=root))
    await ask(house, 1, consent("withdrawn", A), a=root)
    assert not says_yes(await ask(house, 0, check(A), a=root))
    assert not says_yes(await ask(house, 0, check(record_id=root)))


async def test_a_recorded_verdict_of_a_host_that_slept_is_no_yes_either(house: Workspace) -> None:
    root = (await house.done(consent("given", A))).customer_id
    assert says_yes(await ask(house, 0, check(A, record=True), a=root))
    await ask(house, 1, consent("withdrawn", A), a=root)
    assert not says_yes(await ask(house, 0, check(A, record=True), a=root))
    verdicts = [e.body for e in await house.events() if isinstance(e.body, VerdictRecorded)]
    assert [verdict.is_open for verdict in verdicts] == [True, False]


async def test_a_merge_with_somebody_who_refused_is_noticed(house: Workspace) -> None:
    await house.done(consent("refused", B))
    root = (await house.done(consent("given", A))).customer_id
    assert says_yes(await ask(house, 0, check(A), a=root))
    await house.done(identify(A, B))
    for host in (0, 1):
        assert not says_yes(await ask(house, host, check(A), a=root))


async def test_an_identifier_claimed_meanwhile_is_noticed(house: Workspace) -> None:
    assert says_yes(await ask(house, 0, check(A, purpose="analytics")))
    await ask(house, 1, consent("refused", A, purpose="analytics"))
    assert not says_yes(await ask(house, 0, check(A, purpose="analytics")))


async def test_a_change_of_rules_is_noticed(house: Workspace) -> None:
    root = (await house.done(track("m1", A))).customer_id
    assert says_yes(await ask(house, 0, check(A, purpose="analytics"), a=root))
    await house.rules.execute(
        DefinePurpose(**asked({"purpose": "analytics", "basis": LawfulBasis.CONSENT}))
    )
    assert not says_yes(await ask(house, 0, check(A, purpose="analytics"), a=root))


async def test_a_replica_that_lags_behind_its_leader_gives_no_yes() -> None:
    log = LaggingLog()
    async with workspace(log=log, doubled=True) as house:
        root = (await house.done(consent("given", A))).customer_id
        assert says_yes(await ask(house, 0, check(A), a=root))
        log.heard_revision = len(await house.events())
        await ask(house, 1, consent("withdrawn", A), a=root)
        late = await ask(house, 0, check(A), a=root)
        assert isinstance(late, Failed)
        assert late.reason == "LOG_UNAVAILABLE"
        fresh = await ask(house, 0, check(B, purpose="analytics"))
        assert says_yes(fresh)
        log.heard_revision = None
        assert not says_yes(await ask(house, 0, check(A), a=root))
        assert isinstance(await ask(house, 0, check(A), a=root), Done)


@pytest.mark.parametrize("wrong", ["somebody else", "nobody"])
async def test_a_router_that_is_wrong_about_an_owner_changes_nothing(
    house: Workspace, wrong: str
) -> None:
    stranger = (await house.done(consent("given", A))).customer_id
    other = "00000000-0000-7000-8000-000000000000" if wrong == "nobody" else stranger
    assert not says_yes(await ask(house, 0, check(B), b=other))
    reply = await ask(house, 0, check(B), b=other)
    assert isinstance(reply, Done)
    assert reply.customer_id is None
    created = await ask(house, 0, track("m1", B), b=other)
    assert isinstance(created, Done)
    assert created.created
    assert created.customer_id not in (stranger, other)
    linked = await ask(house, 1, track("m2", B), b=other)
    assert isinstance(linked, Done)
    assert linked.customer_id == created.customer_id


async def test_a_duplicate_teaches_a_router_nothing_about_new_identifiers(
    house: Workspace,
) -> None:
    await house.done(track("m1", A))
    await house.done(consent("given", A))
    await house.done(track("m1", A, B))
    reply = await house.done(check(B))
    assert (reply.customer_id, says_yes(reply)) == (None, False)
    assert (await house.done(track("m2", B))).created


async def test_an_unreadable_event_refuses_commands_and_answers_no(house: Workspace) -> None:
    reply = await house.done(consent("given", A))
    await house.done(track("m1", B))
    house.memory.damage_body(reply.revision, b"{")
    await house.restart()
    assert await house.fails(traits(A)) == "CUSTOMER_UNREADABLE"
    assert await house.fails(identify(A, B)) == "CUSTOMER_UNREADABLE"
    assert await house.fails(check(A, record=True)) == "CUSTOMER_UNREADABLE"
    verdict = (await house.done(check(A))).verdict
    assert verdict is not None
    assert (verdict.is_open, verdict.reason) == (False, "CUSTOMER_UNREADABLE")
    assert not await house.is_open(A, purpose="service")
    assert (await house.done(track("m2", B))).signals[0] == "recorded"


async def test_a_broken_chain_is_unreadable_and_takes_nobody_else_along(house: Workspace) -> None:
    first = await house.done(track("m1", A))
    await house.done(track("m2", A))
    await house.done(track("m3", B))
    house.memory.damage_body(first.revision, b'{"source":"shop","signals":[]}')
    await house.restart()
    answers = await house.router.execute_many([traits(A), traits(B)])
    assert [getattr(answer, "reason", None) for answer in answers] == [
        "CUSTOMER_UNREADABLE",
        None,
    ]


async def test_an_unreadable_record_closes_the_whole_customer(house: Workspace) -> None:
    older = await house.done(track("m1", A))
    await house.done(track("m2", B))
    await house.done(consent("given", A))
    await house.done(identify(A, B))
    house.memory.damage_body(older.revision, b"{")
    await house.restart()
    for item in (A, B):
        assert not await house.is_open(item, purpose="service")
        assert await house.fails(traits(item)) == "CUSTOMER_UNREADABLE"


async def test_an_unreadable_event_that_comes_later_ends_a_yes(house: Workspace) -> None:
    root = (await house.done(consent("given", A))).customer_id
    assert says_yes(await ask(house, 0, check(A), a=root))
    await ask(house, 1, consent("withdrawn", A), a=root)
    house.memory.damage_body(await last_revision(house, ConsentWithdrawn), b"{")
    reply = await ask(house, 0, check(A), a=root)
    assert isinstance(reply, Done)
    assert reply.verdict is not None
    assert (reply.verdict.is_open, reply.verdict.reason) == (False, "CUSTOMER_UNREADABLE")
    refused = await ask(house, 0, traits(A), a=root)
    assert isinstance(refused, Failed)
    assert refused.reason == "CUSTOMER_UNREADABLE"


async def test_an_unreadable_claim_is_no_yes_and_no_command(house: Workspace) -> None:
    await house.done(consent("refused", A, purpose="analytics"))
    house.memory.damage_body(await last_revision(house, IdentifierClaimed), b"{")
    await house.restart()
    assert not await house.is_open(A, purpose="analytics")
    assert await house.fails(track("m1", A)) == "CUSTOMER_UNREADABLE"


async def test_a_log_out_of_shape_takes_no_writes_and_says_no_yes() -> None:
    log = WatchedLog()
    async with workspace(log=log) as house:
        await house.done(consent("given", A))
        size = len(await house.events())
        log.lost = 1
        for host in house.hosts:
            await host._guard.check()
            assert host.status()["log_sound"] is False
        assert not await house.is_open(A)
        assert not await house.is_open(B, purpose="service")
        assert await house.fails(track("m1", A)) == "LOG_DAMAGED"
        assert await house.fails(check(A, record=True)) == "LOG_DAMAGED"
        log.lost = 0
        for host in house.hosts:
            await host._guard.check()
        assert await house.fails(track("m1", A)) == "LOG_DAMAGED"
        assert len(await house.events()) == size


async def test_a_host_that_starts_on_a_log_out_of_shape_takes_nothing() -> None:
    log = WatchedLog()
    async with workspace(log=log) as house:
        await house.done(consent("given", A))
        log.lost = 1
        await house.restart()
        assert house.hosts[0].status()["log_faults"] == ["lost_events"]
        assert await house.fails(track("m2", A)) == "LOG_DAMAGED"
        assert not await house.is_open(A)


async def test_a_host_whose_rules_cannot_be_read_takes_nothing(house: Workspace) -> None:
    await house.done(consent("given", A))
    house.memory.damage_body(1, b"{")
    await house.restart()
    assert house.hosts[0].status()["log_faults"] == ["rules_damaged"]
    assert await house.fails(track("m2", A)) == "LOG_DAMAGED"
    assert not await house.is_open(A)


async def test_a_log_that_lost_what_was_acknowledged_is_out_of_shape(house: Workspace) -> None:
    await house.done(track("m1", A))
    for host in house.hosts:
        await host._guard.check()
    del house.memory._rows[-1]
    for host in house.hosts:
        await host._guard.check()
    assert await house.fails(track("m2", B)) == "LOG_DAMAGED"
    assert house.hosts[0]._guard.faults == ("acknowledged_events_lost",)


async def test_commands_fail_fast_while_the_log_is_away_and_go_on_after(house: Workspace) -> None:
    await house.done(track("m1", A))
    house.memory.is_available = False
    assert await house.fails(track("m2", B)) == "LOG_UNAVAILABLE"
    assert await house.fails(check(A)) == "LOG_UNAVAILABLE"
    refused = await house.router.execute(traits(A))
    assert isinstance(refused, Failed)
    assert (refused.kind, refused.reason) == (Kind.UNAVAILABLE, "LOG_UNAVAILABLE")
    house.memory.is_available = True
    assert (await house.done(track("m1", A))).signals[0] == "duplicate"
    assert (await house.done(track("m2", B))).created


async def test_one_caller_who_leaves_takes_nobody_along(house: Workspace) -> None:
    await house.done(track("m1", A))
    gone: CheckConsent = check(A)
    house.memory.damage_body(len(await house.events()), b"{")
    await house.restart()
    leaving = asyncio.create_task(ask(house, 0, gone, a=str(await owner(house))))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await house.done(track("m2", C))).created


async def owner(house: Workspace) -> str:
    found = [e.body for e in await house.events() if isinstance(e.body, IdentifierClaimed)]
    return found[0].record_id


async def test_a_command_whose_customer_merged_while_it_waited_for_its_turn_is_made_ready() -> None:
    log = WatchedLog()
    limits = HostLimits(commands_in_turns_max=1)
    async with workspace(log=log, doubled=True, limits=limits) as house:
        older = (await house.done(track("m1", A))).customer_id
        younger = (await house.done(track("m2", C))).customer_id
        held = log.gate
        held.clear()
        log.attempts.clear()
        slow = asyncio.create_task(ask(house, 0, traits(A), a=older))
        await eventually(lambda: len(log.attempts) == 1)
        waiting = asyncio.create_task(ask(house, 0, traits(record_id=younger)))
        await eventually(lambda: house.hosts[0].status()["commands_waiting"] == 1)
        log.gate = asyncio.Event()
        log.gate.set()
        merged = await ask(house, 1, identify(A, C), a=older, c=younger)
        held.set()
        for reply in (merged, await slow, await waiting):
            assert isinstance(reply, Done)
            assert reply.customer_id == older
