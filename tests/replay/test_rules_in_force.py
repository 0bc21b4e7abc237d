"""The rules in force, tried on the log: nobody would join, part or lose anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import (
    EraseCustomer,
    LinkIdentifiers,
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity import Identifier
from domain.identity_events import CustomersMerged, IdentifiersLinked
from domain.identity_rules import IdentityRules, Namespace
from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from tests.actors.house import CLOCK, Workspace, identify, person, track, workspace
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
STEPS = 40
KINDS = {
    "identify": 9,
    "track": 3,
    "link": 3,
    "undo": 5,
    "unmerge": 1,
    "merge": 1,
    "unlink": 2,
    "erase": 1,
    "readmit": 2,
}
"""What may happen, and how often."""

Events = Sequence[Recorded[Event]]


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


async def test_whom_a_limit_kept_from_somebody_erased_later_it_keeps_from_them() -> None:
    async with nothing_would_change(are_keys_gone=True) as house:
        await house.done(identify(USER, CARD))
        await house.done(identify(OTHER_USER, DEVICE))
        await house.done(track("m1", OTHER_USER, CARD))
        await house.done(erase(USER))


def drawn(random: Random, events: Events) -> PersonCommand:
    """Draw a command; it names records and merges of the log."""
    [kind] = random.choices([*KINDS], [*KINDS.values()])
    items = tuple(random.sample(KNOWN, random.choice([1, 1, 2, 3, 4])))
    records = records_of(events)
    named = {"record_id": random.choice([None, random.choice(records)]) if records else None}
    said = {"source": "shop", "happened_at": CLOCK.now()}
    match kind:
        case "identify":
            return identify(*items, **named, traits=random.choice([{}, {"a": 1}]))
        case "link":
            return LinkIdentifiers(**person(items, named | said))
        case "unlink":
            return UnlinkIdentifier(**person(items[:1], {}))
        case "erase":
            return erase(items[0])
        case "readmit":
            return readmit(items[0])
        case "undo" | "unmerge" | "merge" if records:
            return regrouping(random, kind, events)
        case _:
            return track(CLOCK.new_id(), *items, **named)


def regrouping(random: Random, kind: str, events: Events) -> PersonCommand:
    """Draw a merge, or what undoes one or more."""
    record_id, other = (random.choice(records_of(events)) for _ in range(2))
    merges = [edge for e in events if isinstance(e.body, CustomersMerged) for edge in e.body.edges]
    if kind == "undo" and merges:
        edge = random.choice(merges)
        return undo(edge.older, edge.merge_id)
    if kind == "merge":
        return MergeCustomers(**person((), {"record_id": record_id, "other_record_id": other}))
    return UnmergeRecord(**person((), {"record_id": record_id}))


def records_of(events: Events) -> list[str]:
    return [e.stream.key for e in events if isinstance(e.body, IdentifiersLinked)]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), are_keys_gone=st.booleans())
async def test_of_whatever_happened_nothing_would_change(*, seed: int, are_keys_gone: bool) -> None:
    random = Random(seed)
    async with nothing_would_change(are_keys_gone=are_keys_gone) as house:
        for _ in range(STEPS):
            await house.router.execute(drawn(random, await house.events()))
