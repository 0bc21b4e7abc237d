"""The rules in force, tried on the log: nobody would join, part or lose anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.commands import (
    EraseCustomer,
    ReadmitIdentifier,
    UndoMerge,
    UnlinkIdentifier,
)
from domain.erasure_events import ErasureRequested
from domain.identity import Identifier
from domain.identity_rules import IdentityRules, Namespace
from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from tests.actors.house import Workspace, identify, person, workspace
from tests.replay.test_identity import real, rehearsed

RULES = IdentityRules(
    namespaces=(
        Namespace(name="user_id", values_max=1),
        Namespace(name="loyalty_id", values_max=3),
        Namespace(name="device_id", values_max=9),
    )
)
KNOWN = [
    real(namespace, f"{namespace} {number}")
    for namespace, values in (("user_id", 3), ("loyalty_id", 8), ("device_id", 9))
    for number in range(values)
]
USER, OTHER_USER = KNOWN[:2]
CARD, DEVICE = KNOWN[3], KNOWN[-1]


@asynccontextmanager
async def nothing_would_change(*, are_keys_gone: bool = False) -> AsyncIterator[Workspace]:
    """Let something happen, then try the rules; `are_keys_gone` says of whoever was erased."""
    keys = KeyRing(MemoryKeyStore())
    async with workspace(identity=RULES, log=MemoryEventLog("test", keys=keys)) as house:
        yield house
        if are_keys_gone:
            events = await house.events()
            erased = [e.stream.key for e in events if isinstance(e.body, ErasureRequested)]
            await keys.destroy([RecordId(record_id) for record_id in erased])
        found = await rehearsed(house, RULES)
    await keys.close()
    assert (found.would_join, found.would_part, found.would_lose) == ((), (), ())
    assert (found.unheld, found.unknown_records) == ({}, 0)
    assert found.customers == found.customers_then


def undo(record_id: str, merge_id: str) -> UndoMerge:
    return UndoMerge(**person((), {"record_id": record_id, "merge_id": merge_id}))


def erase(item: Identifier) -> EraseCustomer:
    return EraseCustomer(**person((item,), {}))


def readmit(item: Identifier) -> ReadmitIdentifier:
    return ReadmitIdentifier(**person((item,), {"reference": "ticket 1"}))


async def known(house: Workspace, *items: Identifier) -> list[str]:
    """Make a customer of each identifier."""
    return [str((await house.done(identify(item))).customer_id) for item in items]


@pytest.mark.parametrize("undone", [0, 1])
@pytest.mark.parametrize("named", [0, 1, 2])
async def test_who_was_named_and_holds_what_came_stays_with_whom_an_undo_left(
    named: int, undone: int
) -> None:
    async with nothing_would_change() as house:
        people = await known(house, DEVICE, CARD, USER)
        said = identify(DEVICE, CARD, USER, record_id=people[named])
        merged = await house.done(said)
        await house.done(undo(people[named], merged.merge_ids[undone]))


async def test_who_was_named_keeps_a_merge_from_a_stronger_record_of_the_customer() -> None:
    async with nothing_would_change() as house:
        weak, strong, _other = await known(house, DEVICE, USER, CARD)
        first = await house.done(identify(DEVICE, USER))
        await house.done(identify(DEVICE, USER, CARD, record_id=weak))
        await house.done(undo(strong, first.merge_ids[0]))


async def test_whom_a_limit_kept_from_who_was_named_it_keeps_from_them() -> None:
    async with nothing_would_change() as house:
        await house.done(identify(OTHER_USER, DEVICE))
        await known(house, USER, CARD)
        one = str(await house.customer_of(DEVICE))
        said = identify(DEVICE, USER, CARD, record_id=one, traits={"a": 1})
        assert [item.key for item in (await house.done(said)).left_out] == [USER.key]


@pytest.mark.parametrize("are_keys_gone", [False, True])
async def test_what_was_readmitted_and_nobody_claimed_is_lost_to_nobody(
    *, are_keys_gone: bool
) -> None:
    async with nothing_would_change(are_keys_gone=are_keys_gone) as house:
        await house.done(identify(USER, CARD))
        await house.done(erase(USER))
        await house.done(readmit(USER))


async def test_who_was_erased_after_their_only_identifier_was_unlinked_is_known() -> None:
    async with nothing_would_change(are_keys_gone=True) as house:
        [one] = await known(house, CARD)
        await house.done(UnlinkIdentifier(**person((CARD,), {})))
        await house.done(EraseCustomer(**person((), {"record_id": one})))
