"""Somebody of whom an event cannot be read can be erased, if it is sure who they are (R14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.commands import EraseCustomer, PersonCommand
from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity import Identifier
from domain.identity_events import (
    CustomersMerged,
    IdentifierClaimed,
    IdentifiersLinked,
    IdentifierTombstoned,
)
from domain.ids import RecordId, record_stream
from domain.replies import Done, Failed
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from projections import parking
from projections.erasures import erasure_of
from projections.errors import CustomerErased
from projections.views import customer_view
from replay.fold import fold_log
from replay.verify import verify
from tests.actors.house import (
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

FUTURE = "koseki.record.horoscope-cast.v3"
A, B, OTHER = user("a"), loyalty("b"), user("other")


def erase(*items: Identifier, customer: str | None = None, **said: bool) -> EraseCustomer:
    return EraseCustomer(**person(items, {"record_id": customer, **said}))


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    """A customer of two records, and somebody else."""
    async with workspace(doubled=True) as opened:
        await opened.done(track("m1", A))
        await opened.done(track("m2", B))
        await opened.done(identify(A, B))
        await opened.done(track("m3", OTHER))
        yield opened


async def spoilt(house: Workspace, *, body: bytes | None = None) -> str:
    """Have the younger record's newest event be one that nobody can read; give the customer."""
    root = await house.customer_of(A)
    members = {e.stream.key for e in await house.events() if e.stream.kind == "record"}
    other = await house.customer_of(OTHER)
    [younger] = members - {root, other}
    await house.done(traits(B))
    stream = record_stream(RecordId(younger))
    revision = max(e.revision for e in await house.events() if e.stream == stream)
    if body is None:
        house.memory.rename_event(revision, FUTURE)
    else:
        house.memory.damage_body(revision, body)
    await house.restart()
    assert root is not None
    return root


async def readable(house: Workspace) -> list[Recorded[Event]]:
    """Read what can be read of the log."""
    batches = [batch async for batch in house.log.read()]
    return [entry.event for batch in batches for entry in batch if entry.event is not None]


async def erased(house: Workspace) -> tuple[set[str], set[str]]:
    """Give the records that are erased, and the identifiers that are tombstoned."""
    events = await readable(house)
    records = {e.stream.key for e in events if isinstance(e.body, ErasureRequested)}
    return records, {e.stream.key for e in events if isinstance(e.body, IdentifierTombstoned)}


async def count(house: Workspace, kind: type[Event]) -> int:
    """Count the events of a kind."""
    return sum(isinstance(event.body, kind) for event in await readable(house))


@pytest.mark.parametrize("by", ["id", "readable", "unreadable"])
@pytest.mark.parametrize("body", [None, b"{", b'{"source":7}'])
async def test_whoever_has_an_unreadable_event_is_erased_whole(
    house: Workspace, by: str, body: bytes | None
) -> None:
    root = await spoilt(house, body=body)
    assert await house.fails(traits(A)) == "CUSTOMER_UNREADABLE"
    named = {"id": erase(customer=root), "readable": erase(A), "unreadable": erase(B)}
    command = named[by]
    trying = command.model_copy(update={"dry_run": True, "command_id": house.clock.new_id()})
    would = await house.done(trying)
    assert would.consequences is not None
    assert len(would.consequences.erased) == 2
    assert await erased(house) == (set(), set())
    done = await house.done(command)
    assert done.customer_id == root
    assert done.consequences == would.consequences

    async def gone() -> None:
        records, identifiers = await erased(house)
        assert (len(records), identifiers) == (2, {A.key, B.key})
        assert (await house.done(command)).customer_id == root
        assert await count(house, ErasureRequested) == 2
        for item in (A, B):
            assert await house.fails(traits(item)) == "IDENTIFIER_ERASED"
            assert not await house.is_open(item, purpose="service")
            assert await house.fails(track("m9", item)) == "IDENTIFIER_ERASED"
        for record in records:
            assert await house.fails(traits(record_id=record)) == "CUSTOMER_ERASED"
            verdict = (await house.done(check(record_id=record))).verdict
            assert verdict is not None
            assert (verdict.is_open, verdict.reason) == (False, "CUSTOMER_ERASED")
        assert (await house.done(track("m3", OTHER))).signals[0] == "duplicate"

    await house.both_ways(gone)


async def test_the_read_side_hears_of_it_and_still_equals_the_log(house: Workspace) -> None:
    root = RecordId(await spoilt(house))
    assert [row.key for row in parking.parked(await fold_log(house.log))]
    done = await house.done(erase(customer=root))
    tables = await fold_log(house.log)
    assert list(parking.parked(tables)) == []
    with pytest.raises(CustomerErased):
        customer_view(tables, root, "service")
    told = erasure_of(tables, root)
    assert told is not None
    assert (len(told.records), told.identifiers) == (2, 2)
    assert told.revision <= done.revision
    assert (await verify(house.log, tables)).holds


async def test_of_erasures_at_once_one_is_carried_out(house: Workspace) -> None:
    root = await spoilt(house)
    commands = [erase(customer=root), erase(A), erase(B), erase(A, B)]
    replies = await asyncio.gather(*(house.new_router().execute(c) for c in commands))
    assert {reply.revision for reply in replies if isinstance(reply, Done)}
    assert not [reply for reply in replies if isinstance(reply, Failed)]
    assert await count(house, ErasureRequested) == 2
    assert await count(house, IdentifierTombstoned) == 2


async def test_nobody_else_is_decided_on_what_is_left(house: Workspace) -> None:
    root = await spoilt(house)
    trying = erase(customer=root, dry_run=True)
    commands: list[PersonCommand] = [traits(A), trying, check(A), consent("given", B)]
    replies = await house.router.execute_many(commands)
    reasons = [r.reason if isinstance(r, Failed) else "" for r in replies]
    assert reasons == ["CUSTOMER_UNREADABLE", "", "", "CUSTOMER_UNREADABLE"]
    checked = replies[2]
    assert isinstance(checked, Done)
    assert checked.verdict is not None
    assert checked.verdict.reason == "CUSTOMER_UNREADABLE"


@pytest.mark.parametrize("kind", [IdentifiersLinked, CustomersMerged])
@pytest.mark.parametrize("is_known", [True, False])
async def test_whoever_may_hold_more_than_can_be_read_is_not_erased(
    kind: type[Event], *, is_known: bool
) -> None:
    async with workspace() as house:
        await house.done(identify(A))
        await house.done(identify(B))
        if kind is CustomersMerged:
            await house.done(identify(A, B))
        revision = max(e.revision for e in await house.events() if isinstance(e.body, kind))
        if is_known:
            house.memory.damage_body(revision, b"{")
        else:
            house.memory.rename_event(revision, FUTURE)
        await house.restart()
        assert await house.fails(erase(B)) == "CUSTOMER_UNREADABLE"
        assert await count(house, ErasureRequested) == 0


async def test_whose_keys_are_lost_is_erased_with_all_that_they_hold() -> None:
    log = MemoryEventLog("test", keys=KeyRing(MemoryKeyStore()))
    async with workspace(log=log) as house:
        await house.done(track("m1", A))
        await house.done(track("m2", B))
        await house.done(identify(A, B, traits={"tier": "gold"}))
        await house.done(consent("given", A, method="form"))
    keyless = MemoryEventLog("test", keys=KeyRing(MemoryKeyStore()))
    keyless._rows, keyless._revisions = log._rows, log._revisions
    house = Workspace(keyless)
    await house.start()
    try:
        assert await house.fails(traits(A)) == "CUSTOMER_UNREADABLE"
        await house.done(erase(B))
        records, identifiers = await erased(house)
        assert (len(records), identifiers) == (2, {A.key, B.key})
        assert await house.fails(traits(A)) == "IDENTIFIER_ERASED"
    finally:
        await house.close()


async def test_a_broken_chain_or_a_claim_that_cannot_be_read_erases_nobody() -> None:
    async with workspace() as house:
        first = await house.done(track("m1", A))
        await house.done(track("m2", A))
        house.memory.damage_body(first.revision, b'{"source":"shop","signals":[]}')
        await house.restart()
        assert await house.fails(erase(A)) == "CUSTOMER_UNREADABLE"
        await house.done(track("m3", OTHER))
        claims = [e for e in await readable(house) if isinstance(e.body, IdentifierClaimed)]
        house.memory.damage_body(claims[-1].revision, b"{")
        await house.restart()
        assert await house.fails(erase(OTHER)) == "CUSTOMER_UNREADABLE"
        assert await count(house, ErasureRequested) == 0


async def test_what_cannot_be_read_counts_as_a_change(house: Workspace) -> None:
    before = (await house.events())[-1].revision
    root = await spoilt(house)
    stale = erase(customer=root).model_copy(update={"expected_revision": before})
    reply = await house.router.execute(stale)
    assert isinstance(reply, Failed)
    assert (reply.reason, reply.current_revision) == ("CUSTOMER_CHANGED", before + 1)
    await house.done(
        erase(customer=root).model_copy(update={"expected_revision": before + 1}),
    )
