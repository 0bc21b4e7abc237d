"""An event of a release to come stops its own subject, with its name as the reason, everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain.ids import WORKSPACE_STREAM, RecordId
from projections import parking
from projections.errors import CustomerParked, PoisonEvent
from projections.views import customer_view
from replay.fold import fold_log
from replay.verify import verify
from tests.actors.house import Workspace, check, consent, loyalty, track, traits, user, workspace

FUTURE = "koseki.record.horoscope-cast.v3"
REASON = f"body: the registry does not hold {FUTURE}"

A, B = user("a"), loyalty("b")


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    async with workspace() as opened:
        yield opened


async def test_a_host_takes_no_commands_and_says_no_and_serves_the_others(
    house: Workspace,
) -> None:
    reply = await house.done(consent("given", A))
    await house.done(track("m1", B))
    house.memory.rename_event(reply.revision, FUTURE)
    await house.restart()
    assert await house.fails(traits(A)) == "CUSTOMER_UNREADABLE"
    verdict = (await house.done(check(A))).verdict
    assert verdict is not None
    assert (verdict.is_open, verdict.reason) == (False, "CUSTOMER_UNREADABLE")
    assert (await house.done(track("m2", B))).signals[0] == "recorded"


async def test_the_read_side_parks_the_customer_under_the_events_name(house: Workspace) -> None:
    reply = await house.done(consent("given", A))
    other = await house.done(track("m1", B))
    house.memory.rename_event(reply.revision, FUTURE)
    tables = await fold_log(house.memory)
    (row,) = parking.parked(tables)
    assert (row.key, row.revision, row.reason) == (reply.customer_id, reply.revision, REASON)
    with pytest.raises(CustomerParked):
        customer_view(tables, RecordId(str(reply.customer_id)), "service")
    assert customer_view(tables, RecordId(str(other.customer_id)), "service")


async def test_verification_names_it(house: Workspace) -> None:
    reply = await house.done(consent("given", A))
    house.memory.rename_event(reply.revision, FUTURE)
    found = await verify(house.memory, await fold_log(house.memory))
    assert found.holds
    (named,) = found.parked
    assert (named.key, named.revision, named.reason) == (reply.customer_id, reply.revision, REASON)


async def test_an_unknown_rule_of_the_workspace_stops_the_fold(house: Workspace) -> None:
    log = house.memory
    rules = [event for event in await house.events() if event.stream == WORKSPACE_STREAM]
    log.rename_event(rules[-1].revision, FUTURE)
    with pytest.raises(PoisonEvent, match="horoscope-cast"):
        await fold_log(log)
