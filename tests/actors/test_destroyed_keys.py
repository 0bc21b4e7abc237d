"""Over records whose keys are destroyed: who they are and what they agreed to still folds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from projections.views import customer_view
from replay.fold import fold_log
from tests.actors.house import Workspace, consent, identify, loyalty, track, traits, user, workspace

A, B, OTHER = user("a"), loyalty("b"), user("other")


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing(MemoryKeyStore())


@pytest.fixture
async def house(keys: KeyRing) -> AsyncIterator[Workspace]:
    async with workspace(log=MemoryEventLog("test", keys=keys)) as opened:
        await opened.done(identify(A, traits={"city": "Kyoto"}))
        await opened.done(consent("given", A, evidence={"form": "7"}))
        await opened.done(identify(B, traits={"tier": "gold"}))
        await opened.done(identify(A, B))
        await opened.done(track("m1", OTHER))
        yield opened


async def test_identity_and_consent_still_fold_in_a_host_that_wakes_anew(
    house: Workspace, keys: KeyRing
) -> None:
    customer = await house.customer_of(A)
    assert customer is not None
    records = {e.stream.key for e in await house.events() if e.stream.kind == "record"}
    [others] = {await house.customer_of(OTHER)}
    await keys.destroy([RecordId(record) for record in records if record != others])
    await house.restart()
    assert await house.customer_of(A) == await house.customer_of(B) == customer
    assert await house.is_open(A, B)
    assert await house.fails(traits(A)) == "RECORD_ERASED"
    assert (await house.done(track("m2", OTHER))).customer_id == others
    erased = {e.stream.key for e in await house.events() if e.is_erased}
    assert erased == records - {others}


async def test_the_read_side_shows_consent_and_nothing_personal(
    house: Workspace, keys: KeyRing
) -> None:
    customer = await house.customer_of(A)
    assert customer is not None
    before = customer_view(await fold_log(house.log), RecordId(customer), "audit")
    records = {e.stream.key for e in await house.events() if e.stream.kind == "record"}
    await keys.destroy([RecordId(record) for record in records])
    after = customer_view(await fold_log(house.log), RecordId(customer), "audit")
    assert before is not None
    assert after is not None
    assert (after.customer_id, after.members) == (before.customer_id, before.members)
    assert after.consents == before.consents
    assert before.traits
    assert (after.traits, after.identifiers) == ((), ())
