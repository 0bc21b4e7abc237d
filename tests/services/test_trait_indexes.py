"""Traits indexed on demand, and audiences by them, over a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from koseki.v1 import segment_service_pb2 as segments_pb2
from tests.services.edge import SECONDS, Edge, refusal, user
from tests.services.test_segments import part, parts


def asked(trait: str, **test: Any) -> segments_pb2.Audience:
    """Ask something of a trait."""
    return part(trait=segments_pb2.TraitTest(trait=trait, **test))


def value(said: str | float) -> struct_pb2.Value:
    if isinstance(said, str):
        return struct_pb2.Value(string_value=said)
    return struct_pb2.Value(number_value=said)


async def index(edge: Edge, trait: str, *purposes: str, **fields: Any) -> segments_pb2.TraitIndex:
    """Index a trait, and wait until it can be asked."""
    request = segments_pb2.IndexTraitRequest(
        trait=trait, purposes=purposes or ["analytics"], **fields
    )
    done = await edge.segments.IndexTrait(request, timeout=SECONDS)
    async with asyncio.timeout(SECONDS):
        while True:
            [found] = [i for i in await listed(edge, done.revision) if i.trait == trait]
            if list(found.ready_for) == sorted(request.purposes):
                return found
            await asyncio.sleep(0.01)


async def listed(edge: Edge, revision: int = 0) -> list[segments_pb2.TraitIndex]:
    request = segments_pb2.ListTraitIndexesRequest(at_least_revision=revision)
    return list((await edge.segments.ListTraitIndexes(request, timeout=SECONDS)).indexes)


async def count(
    edge: Edge, audience: segments_pb2.Audience, purpose: str = "analytics", revision: int = 0
) -> int:
    request = segments_pb2.CountAudienceRequest(
        audience=audience, purpose=purpose, at_least_revision=revision
    )
    return int((await edge.segments.CountAudience(request, timeout=SECONDS)).count)


async def people(edge: Edge) -> int:
    """Let three be known, each with a country; give the last revision."""
    revision = 0
    for name, country, age in (("a", "JP", 20), ("b", "JP", 40), ("c", "DE", 60)):
        done = await edge.identify(user(name), traits=struct({"country": country, "age": age}))
        revision = max(revision, done.revision)
    return revision


def struct(fields: dict[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


async def test_audiences_are_counted_by_traits_that_are_indexed_on_demand(
    jetstream_edge: Edge,
) -> None:
    edge = jetstream_edge
    await people(edge)
    found = await index(edge, "country")
    assert not found.HasField("open_reason")
    japan = asked("country", equals=value("JP"))
    assert await count(edge, japan) == 2
    assert await count(edge, part(none_of=parts(japan))) == 1
    moved = await edge.identify(user("b"), traits=struct({"country": "DE"}))
    assert await count(edge, japan, revision=moved.revision) == 1
    either = asked("country", one_of={"values": [value("DE"), value("FR")]})
    assert await count(edge, either) == 2
    closed = await edge.consent("REFUSED", user("c"), purpose="analytics")
    assert await count(edge, either, revision=closed.revision) == 1
    assert await count(edge, asked("country", is_known=False)) == 0


async def test_ranges_are_answered_by_an_index_that_was_declared_open(edge: Edge) -> None:
    await people(edge)
    await index(edge, "age", open_reason="years alone name nobody")
    between = segments_pb2.TraitRange(at_least=value(20), below=value(60))
    assert await count(edge, asked("age", within=between)) == 2
    await index(edge, "country")
    personal = await refusal(
        count(edge, asked("country", within=segments_pb2.TraitRange(above=value("A"))))
    )
    assert (personal.code, personal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRAIT_NOT_OPEN",
    )


@pytest.mark.parametrize("reason", ["", " \t\u3000"])
async def test_an_index_that_stands_open_says_why(edge: Edge, reason: str) -> None:
    found = await refusal(index(edge, "age", open_reason=reason))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ("open_reason",))
    assert not await listed(edge)


async def test_a_list_of_such_an_audience_keeps_its_pages_while_traits_change(edge: Edge) -> None:
    await people(edge)
    await index(edge, "country")
    request = segments_pb2.ListMembersRequest(
        audience=asked("country", is_known=True), purpose="analytics", page_members=1
    )
    call: Any = edge.segments.ListMembers(request, timeout=SECONDS)
    first = await call.read()
    call.cancel()
    await edge.identify(user("d"), traits=struct({"country": "FR"}))
    rest = segments_pb2.ListMembersRequest(
        purpose="analytics", page_members=1, page_token=first.next_page_token
    )
    pages = [page async for page in edge.segments.ListMembers(rest, timeout=SECONDS)]
    everyone = {c for page in (first, *pages) for c in page.customer_ids}
    assert (len(everyone), {page.total for page in pages}) == (3, {3})


async def test_every_faulty_part_of_an_audience_is_named_with_its_place(edge: Edge) -> None:
    await index(edge, "country")
    faulty = part(
        all_of=parts(
            part(segment="unheard_of"),
            part(any_of=parts(asked("age", is_known=True), part(purpose="unheard_of"))),
            asked("country", within=segments_pb2.TraitRange(above=value(1))),
        )
    )
    found = await refusal(count(edge, faulty))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SEGMENT")
    assert found.fields == (
        "audience.all_of.parts[0].segment",
        "audience.all_of.parts[1].any_of.parts[0].trait",
        "audience.all_of.parts[1].any_of.parts[1].purpose",
        "audience.all_of.parts[2].trait",
    )


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({}, "nothing is asked"),
        ({"equals": struct_pb2.Value()}, "says nothing"),
        ({"equals": value(float("nan"))}, "not finite"),
        ({"within": segments_pb2.TraitRange()}, "at least one end"),
        ({"within": segments_pb2.TraitRange(above=value(1), below=value("a"))}, "of one kind"),
        ({"within": segments_pb2.TraitRange(above=value("a" * 197))}, "196 bytes"),
        ({"one_of": {"values": [value(1)] * 1_001}}, "1000 values"),
    ],
)
async def test_a_question_that_means_nothing_is_refused_with_its_place(
    edge: Edge, test: Any, said: str
) -> None:
    audience = part(none_of=parts(part(), asked("country", **test)))
    found = await refusal(count(edge, audience))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert found.fields == ("audience.none_of.parts[0]", "audience.none_of.parts[1].trait")
    assert said in found.said


async def test_an_index_is_of_its_purposes_alone_until_it_is_dropped(edge: Edge) -> None:
    await people(edge)
    await index(edge, "country")
    japan = asked("country", equals=value("JP"))
    assert (await refusal(count(edge, japan, "service"))).reason == "TRAIT_NOT_INDEXED"
    await index(edge, "country", "analytics", "service")
    assert await count(edge, japan, "service") == 2
    request = segments_pb2.DropTraitIndexRequest(trait="country")
    dropped = await edge.segments.DropTraitIndex(request, timeout=SECONDS)
    assert await listed(edge, dropped.revision) == []
    assert (await refusal(count(edge, japan))).reason == "TRAIT_NOT_INDEXED"
    unknown = segments_pb2.DropTraitIndexRequest(trait="unheard_of")
    refused = await refusal(edge.segments.DropTraitIndex(unknown, timeout=SECONDS))
    assert refused.reason == "TRAIT_NOT_INDEXED"


async def test_an_index_that_cannot_be_is_refused_with_its_reason(edge: Edge) -> None:
    for fields, reason, field in (
        ({"trait": "", "purposes": ["analytics"]}, "INVALID_FIELD", ("trait",)),
        ({"trait": "x" * 257, "purposes": ["analytics"]}, "INVALID_FIELD", ("trait",)),
        ({"trait": "x"}, "INVALID_FIELD", ("purposes",)),
        ({"trait": "x", "purposes": ["unheard_of"]}, "UNKNOWN_PURPOSE", ()),
    ):
        request = segments_pb2.IndexTraitRequest(**fields)
        found = await refusal(edge.segments.IndexTrait(request, timeout=SECONDS))
        assert (found.reason, found.fields) == (reason, field)
