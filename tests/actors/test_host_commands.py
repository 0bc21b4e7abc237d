"""What a host does with each command: reply, events; then restart, and assert again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from domain.consent_events import ConsentGiven, VerdictRecorded
from domain.identity_events import CustomersMerged, CustomerTouched, IdentifierClaimed
from domain.replies import Done
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from tests.actors.house import (
    Workspace,
    check,
    consent,
    ident,
    identify,
    loyalty,
    track,
    traits,
    user,
    workspace,
)

A, B, C = user("a"), loyalty("b"), ident("email", "c")


@pytest.fixture
async def house() -> AsyncIterator[Workspace]:
    async with workspace() as opened:
        yield opened


def results(reply: Done) -> list[str]:
    return [*reply.signals]


async def test_a_signal_of_nobody_known_creates_a_customer(house: Workspace) -> None:
    command = track("m1 m2", A, B)
    reply = await house.done(command)
    assert reply.created
    assert reply.customer_id == command.new_record_id
    assert results(reply) == ["recorded", "recorded"]
    assert reply.revision == len(await house.events())

    async def again() -> None:
        assert await house.customer_of(A) == command.new_record_id
        assert await house.customer_of(B) == command.new_record_id
        assert await house.messages() == {"m1": 1, "m2": 1}
        repeated = await house.done(track("m1 m2", B))
        assert results(repeated) == ["duplicate", "duplicate"]
        assert repeated.revision == reply.revision
        assert await house.count(IdentifierClaimed) == 2

    await house.both_ways(again)


async def test_a_known_identifier_brings_a_new_one_along(house: Workspace) -> None:
    first = await house.done(track("m1", A))
    reply = await house.done(identify(A, B, traits={"city": "Kyoto"}))
    assert (reply.created, reply.customer_id) == (False, first.customer_id)

    async def again() -> None:
        assert await house.customer_of(B) == first.customer_id
        assert results(await house.done(track("m1", B))) == ["duplicate"]

    await house.both_ways(again)
    assert await house.count(TraitsSet) == 1


async def test_two_customers_merge_and_both_ids_go_on(house: Workspace) -> None:
    older = (await house.done(track("m1", A))).customer_id
    younger = (await house.done(track("m2", B))).customer_id
    assert older is not None
    assert younger is not None
    reply = await house.done(identify(A, B))
    assert reply.customer_id == min(older, younger)
    assert len(reply.merge_ids) == 1

    async def again() -> None:
        for item in (A, B):
            assert await house.customer_of(item) == reply.customer_id
        for old in (older, younger):
            assert (await house.done(check(record_id=old))).customer_id == reply.customer_id
        assert results(await house.done(track("m1 m2", B))) == ["duplicate", "duplicate"]
        assert await house.count(CustomersMerged) == 2

    await house.both_ways(again)


async def test_a_chain_of_merges_is_one_customer(house: Workspace) -> None:
    names = [user(str(n)) for n in range(6)]
    replies = [await house.done(track(f"m{n}", name)) for n, name in enumerate(names)]
    for one, other in pairwise(names):
        await house.done(identify(one, other))
    root = min(str(reply.customer_id) for reply in replies)

    async def again() -> None:
        assert {await house.customer_of(name) for name in names} == {root}
        assert set(results(await house.done(track("m0 m1 m2 m3 m4 m5", names[3])))) == {"duplicate"}

    await house.both_ways(again)


async def test_a_link_on_a_younger_record_touches_the_root(house: Workspace) -> None:
    await house.done(track("m1", B))
    await house.done(track("m2", A))
    await house.done(identify(A, B))
    await house.done(identify(A, C))
    assert await house.count(CustomerTouched) == 1

    async def again() -> None:
        assert await house.customer_of(C) == await house.customer_of(B)

    await house.both_ways(again)


async def test_consent_is_recorded_and_asked_for(house: Workspace) -> None:
    assert not await house.is_open(A)
    await house.done(consent("given", A, notice_version="v1"))

    async def given() -> None:
        verdict = (await house.done(check(A))).verdict
        assert verdict is not None
        assert (verdict.is_open, verdict.notice_version) == (True, "v1")

    await house.both_ways(given)
    await house.done(consent("withdrawn", A))

    async def withdrawn() -> None:
        verdict = (await house.done(check(A))).verdict
        assert verdict is not None
        assert (verdict.is_open, verdict.reason) == (False, "WITHDRAWN")

    await house.both_ways(withdrawn)


async def test_consent_of_a_merged_customer_stands_on_every_record(house: Workspace) -> None:
    for name in (A, B, C):
        await house.done(track(f"m-{name.value}", name))
    b = (await house.done(track("m", B))).customer_id
    await house.done(identify(A, B, C))
    await house.done(consent("given", B, method="form 7", evidence={"ip": "192.0.2.1"}))
    given = {e.stream.key: e.body for e in await house.events() if isinstance(e.body, ConsentGiven)}
    assert len(given) == 3
    for record_id, body in given.items():
        said = ("form 7", {"ip": "192.0.2.1"}) if record_id == b else (None, {})
        assert (body.method, body.evidence) == said

    async def again() -> None:
        assert [await house.is_open(name) for name in (A, B, C)] == [True, True, True]

    await house.both_ways(again)


async def test_a_refusal_binds_whoever_is_joined_later(house: Workspace) -> None:
    await house.done(consent("refused", A))
    await house.done(consent("given", B))
    assert await house.is_open(B)
    await house.done(identify(A, B))

    async def closed() -> None:
        assert [await house.is_open(name) for name in (A, B)] == [False, False]

    await house.both_ways(closed)
    await house.done(consent("given", A))

    async def opened() -> None:
        assert [await house.is_open(name) for name in (A, B)] == [True, True]

    await house.both_ways(opened)


async def test_a_closed_gate_declines_and_leaves_a_trace(house: Workspace) -> None:
    unknown = await house.done(track("m1", A, source="ads"))
    assert (unknown.customer_id, unknown.revision, results(unknown)) == (None, 0, ["declined"])
    await house.done(consent("refused", A))
    declined = await house.done(track("m2", A, B, source="ads"))
    assert results(declined) == ["declined"]

    async def again() -> None:
        assert await house.count(SignalsDeclined) == 1
        assert await house.customer_of(B) is None
        assert results(await house.done(track("m2", A, source="ads"))) == ["declined"]

    await house.both_ways(again)


async def test_identify_at_a_closed_gate_changes_nothing(house: Workspace) -> None:
    assert await house.fails(identify(A, B, source="ads")) == "PURPOSE_CLOSED"

    async def again() -> None:
        assert await house.customer_of(A) is None

    await house.both_ways(again)


async def test_traits_need_one_known_customer(house: Workspace) -> None:
    assert await house.fails(traits(A)) == "UNKNOWN_CUSTOMER"
    await house.done(track("m1", A))
    await house.done(track("m2", B))
    assert await house.fails(traits(A, B)) == "AMBIGUOUS_CUSTOMER"
    reply = await house.done(traits(A))
    assert reply.revision == len(await house.events())


async def test_a_customer_is_addressed_by_its_id(house: Workspace) -> None:
    created = await house.done(track("m1", A))
    root = created.customer_id

    async def again() -> None:
        assert (await house.done(traits(record_id=root))).customer_id == root
        assert (await house.done(track("m1", record_id=root))).signals[0] == "duplicate"

    await house.both_ways(again)
    missing = "00000000-0000-7000-8000-000000000000"
    assert await house.fails(traits(record_id=missing)) == "UNKNOWN_CUSTOMER"
    assert await house.fails(check(record_id=missing)) == "UNKNOWN_CUSTOMER"


async def test_a_recorded_verdict_lands_in_the_log(house: Workspace) -> None:
    await house.done(consent("given", A))
    reply = await house.done(check(A, record=True))
    assert reply.verdict is not None
    assert reply.verdict.is_open

    async def again() -> None:
        (event,) = [e for e in await house.events() if isinstance(e.body, VerdictRecorded)]
        assert event.revision == reply.revision
        assert event.body.model_dump()["is_open"] is True

    await house.both_ways(again)


async def test_many_people_at_once(house: Workspace) -> None:
    people = [user(str(n)) for n in range(150)]
    await house.all_done([track(f"m{n} x{n}", name) for n, name in enumerate(people)])
    await house.all_done([consent("given", name) for name in people[::2]])

    async def again() -> None:
        replies = await house.all_done([check(name) for name in people])
        found = [reply.verdict.is_open for reply in replies if reply.verdict is not None]
        assert found == [n % 2 == 0 for n in range(150)]
        assert len({reply.customer_id for reply in replies}) == 150

    await house.both_ways(again)
    assert await house.count(SignalsRecorded) == 150
