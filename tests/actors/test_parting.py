"""Merges undone by hosts: who is who afterwards, what is remembered, identifiers that move."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.drafting import drafts_of
from actors.host import HostLimits
from domain.commands import (
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    UndoMerge,
    UnlinkIdentifier,
)
from domain.decision import Change
from domain.identity import Identifier
from domain.identity_events import IdentifierTombstoned
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.ids import Stream, identifier_stream
from domain.replies import Done
from eventlog.port import EMPTY, Attempt, Stored
from tests.actors.house import (
    CLOCK,
    Workspace,
    asked,
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

A, B, C, D = user("a"), user("b"), loyalty("c"), loyalty("d")


def undo(customer_id: str | None, merge_id: str, **said: Any) -> UndoMerge:
    return UndoMerge(
        **asked(said), new_record_id=CLOCK.new_id(), record_id=customer_id, merge_id=merge_id
    )


def merge(one: str | None, other: str | None) -> MergeCustomers:
    return MergeCustomers(
        **asked({"seconds": 60}), new_record_id=CLOCK.new_id(), record_id=one, other_record_id=other
    )


def unlink(item: Identifier) -> UnlinkIdentifier:
    return UnlinkIdentifier(**person((item,), {}))


def readmit(item: Identifier) -> ReadmitIdentifier:
    return ReadmitIdentifier(**person((item,), {"reference": "ticket 1"}))


async def merged(house: Workspace, *items: Identifier) -> tuple[list[str], list[str]]:
    """Make a customer of each identifier, then one of all; give their ids and the merges."""
    ids = [str((await house.done(track(f"m-{i.value}", i))).customer_id) for i in items]
    done = await house.done(identify(*items))
    return ids, list(done.merge_ids)


@pytest.mark.parametrize("doubled", [False, True])
async def test_parted_customers_are_two_again_for_every_host(*, doubled: bool) -> None:
    async with workspace(doubled=doubled) as house:
        (one, other), [merge_id] = await merged(house, A, B)
        assert await house.customer_of(B) == one
        done = await house.done(undo(one, merge_id))
        assert done.customer_id == one
        assert done.consequences is not None
        assert [c.customer_id for c in done.consequences.customers] == [one, other]

        async def apart() -> None:
            assert await house.customer_of(A) == one
            assert await house.customer_of(B) == other
            assert (await house.done(track("m1", A, B))).customer_id == one
            for router in (house.router, house.new_router()):
                assert (await router.execute(track("m2", B))).customer_id == other  # type: ignore[union-attr] # done

        await house.both_ways(apart)


async def test_a_router_that_knew_them_as_one_finds_both() -> None:
    async with workspace(hosts_wanted=4) as house:
        ids, merges = await merged(house, A, B, C, D)
        others = house.new_router()
        for item in (A, B, C, D):
            assert isinstance(await others.execute(track(f"n-{item.value}", item)), Done)
        for merge_id in merges:
            await house.done(undo(ids[0], merge_id))
        for router in (others, house.router):
            for item, customer_id in zip((A, B, C, D), ids, strict=True):
                reply = await router.execute(traits(item, traits={"x": item.value}))
                assert isinstance(reply, Done), reply
                assert reply.customer_id == customer_id


async def test_commands_that_wait_behind_an_undo_find_their_customer() -> None:
    async with workspace() as house:
        (one, other), [merge_id] = await merged(house, A, B)
        commands: list[PersonCommand] = [
            undo(one, merge_id),
            track("x1", B),
            track("x2", A),
            consent("given", B),
        ]
        replies = await house.all_done([*commands, track("x3", B)])
        assert await house.customer_of(B) == other
        assert await house.is_open(B)
        assert all(reply.customer_id in (one, other) for reply in replies)
        assert (await house.messages())["x3"] == 1


async def test_a_command_carried_out_while_merged_is_not_carried_out_again() -> None:
    async with workspace() as house:
        (one, _), [merge_id] = await merged(house, A, B)
        command = traits(A, B)
        first = await house.done(command)
        await house.done(undo(one, merge_id))
        await house.done(unlink(A))
        before = len(await house.events())

        async def repeated() -> None:
            # Only B is known now: its customer parted from the one that remembers.
            again = await house.done(command)
            assert again.revision == first.revision
            assert len(await house.events()) == before

        await house.both_ways(repeated)


async def test_an_identifier_moves_from_one_customer_to_another() -> None:
    async with workspace() as house:
        one = (await house.done(identify(A, C))).customer_id
        other = (await house.done(track("m1", B))).customer_id
        assert (await house.done(unlink(C))).customer_id == one
        assert await house.customer_of(C) is None
        moved = await house.done(identify(B, C))
        assert moved.customer_id == other

        async def there() -> None:
            assert await house.customer_of(C) == other
            assert await house.customer_of(A) == one
            assert (await house.new_router().execute(track("m2", C))).customer_id == other  # type: ignore[union-attr] # done

        await house.both_ways(there)
        await house.done(unlink(C))
        assert (await house.done(identify(A, C))).customer_id == one
        assert await house.fails(unlink(D)) == "UNKNOWN_IDENTIFIER"


async def tombstone(house: Workspace, item: Identifier) -> None:
    """Erase nobody, but leave what an erasure leaves of an identifier that nobody holds."""
    stream: Stream = identifier_stream(item.key)
    owner = CLOCK.new_id()
    change = Change(stream, IdentifierTombstoned(record_id=owner), CLOCK.now())
    drafts = drafts_of([change], track("none", item), clock=CLOCK, now=CLOCK.now())
    attempt = Attempt(tuple(drafts), {stream: EMPTY})
    assert isinstance(await house.log.append(attempt, timeout_seconds=5), Stored)


async def test_a_tombstoned_identifier_is_dropped_until_it_is_readmitted() -> None:
    async with workspace() as house:
        await tombstone(house, C)
        assert await house.fails(track("m1", C)) == "IDENTIFIER_ERASED"
        done = await house.done(track("m2", A, C))
        assert [(item.key, item.reason.value) for item in done.left_out] == [(C.key, "ERASED")]
        await house.done(readmit(C))
        assert (await house.done(identify(A, C))).left_out == ()
        assert await house.customer_of(C) == done.customer_id
        assert await house.fails(readmit(C)) == "NOT_ERASED"


async def test_people_who_share_a_device_are_two_customers() -> None:
    async with workspace(identity=DEFAULT_IDENTITY_RULES) as house:
        one = (await house.done(identify(A, C))).customer_id
        done = await house.done(track("m1", B, C))
        assert done.customer_id != one
        assert [item.reason.value for item in done.left_out] == ["TOO_MANY_VALUES"]
        assert await house.customer_of(C) == one


@pytest.mark.parametrize("seed", range(6))
async def test_merges_and_undos_race_with_consents_and_links_on_every_member(seed: int) -> None:
    """Two hosts for everybody, answers lost: each act stands on all who were members then."""
    log = JitteryLog(seed)
    async with workspace(log=log, doubled=True, limits=HostLimits(tries_max=6)) as house:
        ids, merges = await merged(house, A, B, C, D)
        states = ["given", "withdrawn"]
        batch: list[PersonCommand] = [
            *(consent(states[n % 2], item, seconds=60) for n, item in enumerate((A, B, C, D))),
            *(identify(item, loyalty(f"new-{item.value}"), seconds=60) for item in (A, B, C, D)),
            *(undo(r, m, seconds=60) for r, m in zip(ids[1:], merges, strict=True)),
            merge(ids[0], ids[2]),
        ]
        log.trouble = 0.25
        await asyncio.gather(*(until_settled(house, command) for command in batch))
        log.trouble = 0.0
        await house.both_ways(lambda: each_act_stands_on_every_member(house))


async def until_settled(house: Workspace, command: PersonCommand) -> None:
    """Send a command until it is done, or was refused for what another of them did."""
    router = house.new_router()
    for _ in range(200):
        reply = await router.execute(command)
        if isinstance(reply, Done) or reply.reason == "UNKNOWN_MERGE":
            return
    raise AssertionError("the command was never settled")


async def each_act_stands_on_every_member(house: Workspace) -> None:
    """Fold the log's identity event by event, and compare each act's records with it."""
    customer: dict[str, set[str]] = {}
    acts: dict[str, set[str]] = {}
    expected: dict[str, set[str]] = {}
    for event in await house.events():
        if event.stream.kind != "record":
            continue
        body = event.body.model_dump()
        record = event.stream.key
        customer.setdefault(record, {record})
        for member in body.get("component", ()):
            customer[member] = set(body["component"])
        if "act_id" in body:
            acts.setdefault(body["act_id"], set()).add(record)
            expected.setdefault(body["act_id"], set(customer[record]))
    assert acts == expected
    assert len(acts) == 4
