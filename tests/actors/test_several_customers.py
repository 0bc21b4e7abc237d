"""Commands that mean several customers, one of whom another host has changed since the last look.

What is decided of the one that is left out is written nowhere on it, so no expectation tells that
the host's copy of it is old: it is read up to the leader's heads first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from actors.messages import Routed
from domain.commands import MergeCustomers, PersonCommand, UndoMerge, UnlinkIdentifier
from domain.identity import Identifier, LeftOutReason
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.ids import IdentifierKey, RecordId
from domain.replies import Done
from tests.actors.house import (
    CLOCK,
    Workspace,
    check,
    consent,
    ident,
    identify,
    person,
    track,
    user,
    workspace,
)

OLDER, NEWER, MAIL = user("older"), user("newer"), ident("email", "e")
ANOTHER = ident("phone", "another")


class Met:
    """Two hosts, and an older customer on the first of them that shares nothing with a newer one.

    With `doubled` each host believes that everybody is its own, and the newer one is changed
    through the second; else that is where it belongs.
    """

    def __init__(self, house: Workspace) -> None:
        self.house = house
        self._owners: dict[IdentifierKey, RecordId] = {}

    async def here(self, command: PersonCommand) -> Done:
        """Let the older customer's host carry out a command."""
        return await self._by(0, command)

    async def there(self, command: PersonCommand) -> Done:
        """Let the newer customer's host do."""
        return await self._by(1, command)

    async def _by(self, host: int, command: PersonCommand) -> Done:
        keys = {item.key for item in command.identifiers}
        owners = {key: owner for key, owner in self._owners.items() if key in keys}
        (reply,) = await self.house.hosts[host].execute([Routed(command, owners)])
        assert isinstance(reply, Done), reply
        if isinstance(command, UnlinkIdentifier):
            return reply
        unused = {item.key for item in reply.left_out}
        for key in keys - unused - self._owners.keys():
            self._owners[key] = RecordId(reply.customer_id or "")
        return reply

    def record_on(self, host: int) -> str:
        """Make the id of a record that belongs to a host."""
        while self.house.placement.host_of(RecordId(made := CLOCK.new_id())) != host:
            pass
        return made


@pytest.fixture(params=["each its own", "doubled"])
async def met(request: pytest.FixtureRequest) -> AsyncIterator[Met]:
    doubled = request.param == "doubled"
    async with workspace(identity=DEFAULT_IDENTITY_RULES, doubled=doubled) as house:
        yield Met(house)


def named(item: Identifier, record_id: str) -> PersonCommand:
    return identify(item, new_record_id=record_id)


async def after_an_undo(met: Met) -> None:
    """The newer customer was merged with another user, so that the older one could not join it."""
    first = await met.there(identify(NEWER, new_record_id=met.record_on(1)))
    second = await met.there(identify(MAIL, new_record_id=met.record_on(1)))
    said = {"record_id": first.customer_id, "other_record_id": second.customer_id}
    merged = await met.there(MergeCustomers(**person((), said)))
    await left_out(met)
    undo = {"record_id": first.customer_id, "merge_id": merged.merge_ids[0]}
    await met.there(UndoMerge(**person((), undo)))


async def after_an_unlink(met: Met) -> None:
    """The newer customer held another user's id, so that the older one could not join it."""
    await met.there(identify(NEWER, MAIL, new_record_id=met.record_on(1)))
    await left_out(met)
    await met.there(UnlinkIdentifier(**person((NEWER,), {})))


async def left_out(met: Met) -> None:
    reply = await met.here(identify(OLDER, MAIL, traits={"x": 1}))
    assert [item.reason for item in reply.left_out] == [LeftOutReason.TOO_MANY_VALUES]


CHANGES = [after_an_undo, after_an_unlink]


@pytest.mark.parametrize("change", CHANGES)
async def test_who_may_join_by_now_is_joined(
    met: Met, change: Callable[[Met], Awaitable[None]]
) -> None:
    await met.here(identify(OLDER, new_record_id=met.record_on(0)))
    await change(met)
    reply = await met.here(identify(OLDER, MAIL, traits={"x": 2}))
    assert not reply.left_out
    assert reply.merge_ids


@pytest.mark.parametrize("change", CHANGES)
async def test_a_withdrawal_binds_who_may_join_by_now(
    met: Met, change: Callable[[Met], Awaitable[None]]
) -> None:
    await met.here(identify(OLDER, new_record_id=met.record_on(0)))
    await change(met)
    await met.there(consent("given", MAIL))
    assert not (await met.here(consent("withdrawn", OLDER, MAIL))).left_out
    verdict = (await met.house.done(check(MAIL))).verdict
    assert verdict is not None
    assert not verdict.is_open


async def test_a_signal_is_judged_by_what_everybody_says_by_now(met: Met) -> None:
    await met.here(consent("given", OLDER, new_record_id=met.record_on(0)))
    await met.there(consent("given", MAIL, new_record_id=met.record_on(1)))
    await met.there(consent("withdrawn", MAIL))
    assert (await met.here(track("m1", OLDER, MAIL, source="ads"))).signals == ("declined",)
    await met.there(consent("given", MAIL))
    assert (await met.here(track("m2", OLDER, MAIL, source="ads"))).signals == ("recorded",)


async def test_a_check_asks_whoever_holds_the_identifier_by_now(met: Met) -> None:
    await met.here(consent("given", OLDER, new_record_id=met.record_on(0)))
    await met.there(consent("given", MAIL, NEWER, new_record_id=met.record_on(1)))
    assert await is_open(met, OLDER, MAIL)
    await met.there(UnlinkIdentifier(**person((MAIL,), {})))
    holder = met._owners.pop(MAIL.key)
    await met.there(consent("refused", MAIL, ANOTHER, new_record_id=met.record_on(1)))
    met._owners[MAIL.key] = holder  # as a router believes that heard of neither
    assert not await is_open(met, OLDER, MAIL)


async def test_an_identifier_that_became_free_is_claimed_whatever_the_router_believes(
    met: Met,
) -> None:
    house = met.house
    router, stale = house.router, house.new_router()
    first = identify(MAIL, new_record_id=met.record_on(0))
    for asked_of in (router, stale):
        assert isinstance(await asked_of.execute(first), Done)
    assert isinstance(await router.execute(UnlinkIdentifier(**person((MAIL,), {}))), Done)
    newer = await stale.execute(identify(NEWER, new_record_id=met.record_on(1)))
    assert isinstance(newer, Done)
    reply = await stale.execute(track("m1", NEWER, MAIL))
    assert isinstance(reply, Done), reply
    assert reply.customer_id == newer.customer_id
    assert reply.signals == ("recorded",)


async def test_who_parted_from_a_customer_holds_nothing_that_the_log_says_is_free(met: Met) -> None:
    older = await met.here(identify(OLDER, new_record_id=met.record_on(0)))
    newer = await met.there(identify(ANOTHER, new_record_id=met.record_on(1)))
    said = {"record_id": older.customer_id, "other_record_id": newer.customer_id}
    merged = await met.here(MergeCustomers(**person((), said)))
    undo = {"record_id": older.customer_id, "merge_id": merged.merge_ids[0]}
    await met.here(UndoMerge(**person((), undo)))
    await met.there(identify(ANOTHER, MAIL))
    apart = await met.here(track("m1", OLDER, MAIL))
    assert [item.reason for item in apart.left_out] == [LeftOutReason.SEPARATED]
    await met.there(UnlinkIdentifier(**person((MAIL,), {})))
    del met._owners[MAIL.key]  # as a router does that hears of it
    reply = await met.here(track("m2", OLDER, MAIL))
    assert not reply.left_out
    assert reply.customer_id == older.customer_id


async def is_open(met: Met, *identifiers: Identifier) -> bool:
    verdict = (await met.here(check(*identifiers))).verdict
    assert verdict is not None
    return verdict.is_open
