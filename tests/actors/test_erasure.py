"""Erasure by hosts: everybody hears of it at once, races leave nothing behind, restarts forget it
not (R14)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.commands import EraseCustomer, ReadmitIdentifier
from domain.erasure_events import ErasureRequested
from domain.identity import Identifier
from domain.identity_events import IdentifiersLinked, IdentifierTombstoned
from domain.replies import Done, Failed
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from eventlog.outgoing import RECORD_ERASED
from tests.actors.house import (
    Workspace,
    check,
    consent,
    ident,
    identify,
    loyalty,
    person,
    track,
    traits,
    user,
    workspace,
)
from tests.actors.logs import JitteryLog

A, B, TABLET = user("a"), loyalty("b"), ident("device_id", "tablet")


def erase(*items: Identifier, customer: str | None = None, **said: Any) -> EraseCustomer:
    return EraseCustomer(**person(items, {"record_id": customer, **said}))


def readmit(item: Identifier) -> ReadmitIdentifier:
    return ReadmitIdentifier(**person((item,), {"reference": "ticket 1"}))


async def verdict(house: Workspace, **said: Any) -> tuple[bool, str]:
    found = (await house.done(check(*said.pop("items", ()), **said))).verdict
    assert found is not None
    return found.is_open, found.reason


@pytest.mark.parametrize("doubled", [False, True])
async def test_an_erased_person_is_gone_for_every_host_and_stays_so(*, doubled: bool) -> None:
    async with workspace(doubled=doubled) as house:
        one = (await house.done(track("m1", A))).customer_id
        two = (await house.done(track("m2", B))).customer_id
        await house.done(identify(A, B))
        await house.done(consent("given", B))
        done = await house.done(erase(customer=two))
        assert done.customer_id == one

        async def gone() -> None:
            assert await verdict(house, record_id=two) == (False, "CUSTOMER_ERASED")
            assert await verdict(house, items=[B], purpose="service") == (
                False,
                "IDENTIFIER_ERASED",
            )
            assert await house.fails(traits(record_id=one)) == "CUSTOMER_ERASED"
            assert await house.fails(track("m3", A, B)) == "IDENTIFIER_ERASED"
            again = await house.done(erase(A))
            assert (again.customer_id, again.revision) == (one, done.revision)

        await house.both_ways(gone)
        assert await house.count(ErasureRequested) == 2
        assert await house.count(IdentifierTombstoned) == 2


async def test_what_was_held_is_used_again_after_an_explicit_act_and_the_old_stays_gone() -> None:
    async with workspace() as house:
        old = (await house.done(track("m1", A, B))).customer_id
        await house.done(erase(A))
        assert await house.fails(track("m1", A)) == "IDENTIFIER_ERASED"
        await house.done(readmit(A))
        fresh = await house.done(track("m1", A, B))
        assert fresh.created
        assert fresh.customer_id != old
        assert [item.reason.value for item in fresh.left_out] == ["ERASED"]
        assert await house.fails(traits(record_id=old)) == "CUSTOMER_ERASED"


async def test_a_shared_device_goes_on_serving_who_else_holds_it() -> None:
    async with workspace() as house:
        other = (await house.done(track("m1", B, TABLET))).customer_id
        await house.done(track("m2", A))
        await house.done(erase(A))
        done = await house.done(track("m3", A, TABLET))
        assert done.customer_id == other


async def test_a_dry_run_stores_nothing_and_lists_every_record() -> None:
    async with workspace() as house:
        await house.done(track("m1", A))
        await house.done(track("m2", B))
        await house.done(identify(A, B))
        before = len(await house.events())
        done = await house.done(erase(A, dry_run=True))
        assert done.consequences is not None
        assert len(done.consequences.erased) == 2
        assert len(await house.events()) == before


async def test_races_with_an_erasure_leave_no_identifier_held_and_nothing_after_it() -> None:
    log = JitteryLog(7)
    async with workspace(log=log, doubled=True) as house:
        for turn in range(8):
            who = user(f"who-{turn}")
            customer = (await house.done(track(f"m{turn}", who))).customer_id
            routers = [house.new_router() for _ in range(3)]
            racing = [
                routers[0].execute(erase(customer=customer, seconds=30)),
                routers[1].execute(identify(who, loyalty(f"more-{turn}"), seconds=30)),
                routers[2].execute(traits(record_id=customer, seconds=30)),
                routers[1].execute(track(f"n{turn}", who, loyalty(f"other-{turn}"), seconds=30)),
            ]
            replies = await asyncio.gather(*racing)
            assert isinstance(replies[0], Done), replies[0]
            _assert_closed(await house.events(), str(customer))
            for reply in replies[1:]:
                assert isinstance(reply, Done) or reply.reason in {
                    "CUSTOMER_ERASED",
                    "IDENTIFIER_ERASED",
                }


def _assert_closed(events: list[Any], customer: str) -> None:
    own = [e for e in events if e.stream.key == customer]
    assert isinstance(own[-1].body, ErasureRequested)
    held = {k for e in own if isinstance(e.body, IdentifiersLinked) for k in e.body.keys}
    tombstoned = {e.stream.key for e in events if isinstance(e.body, IdentifierTombstoned)}
    assert held <= tombstoned


async def test_after_the_key_is_destroyed_nothing_personal_is_taken_and_the_rest_still_folds() -> (
    None
):
    keys = KeyRing(MemoryKeyStore())
    async with workspace(log=MemoryEventLog("test", keys=keys)) as house:
        customer = (await house.done(track("m1", A))).customer_id
        assert customer is not None
        await keys.destroy([customer])  # type: ignore[list-item]
        assert await house.fails(traits(A)) == RECORD_ERASED
        await house.restart()
        done = await house.done(erase(customer=customer))
        assert done.customer_id == customer
        assert await house.fails(track("m2", A)) == "IDENTIFIER_ERASED"


async def test_a_retry_after_a_lost_answer_is_the_same_erasure() -> None:
    async with workspace() as house:
        await house.done(track("m1", A))
        command = erase(A)
        house.link.faults.append("after")
        done = await house.done(command)
        assert done.customer_id is not None
        assert await house.count(ErasureRequested) == 1
        reply = await house.new_router().execute(command)
        assert not isinstance(reply, Failed)
        assert reply.revision == done.revision
