"""Hostile values over a real server: a clear status each time, and the next good call works."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2, timestamp_pb2

from koseki.v1 import customer_service_pb2, query_service_pb2
from tests.services.edge import SECONDS, Edge, loyalty, refusal, signal, user

IDENTIFY = "/koseki.v1.CustomerService/Identify"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def varint(number: int) -> bytes:
    """Write a length as protobuf does."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def field(number: int, content: bytes) -> bytes:
    """Write a field of bytes, a text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    """Write an Identify whose traits nest so deep; made by hand, as no library would write it."""
    value = b""
    for _ in range(depth):
        struct = field(1, field(1, b"a") + field(2, value))
        value = field(5, struct)
    traits = field(1, field(1, b"a") + field(2, value))
    person = field(4, field(1, b"user_id") + field(2, b"1"))
    return person + field(5, b"shop") + field(6, traits)


async def send(edge: Edge, request: bytes) -> bytes:
    """Send bytes as they are."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = edge.channel.unary_unary(IDENTIFY)
    return await call(request, timeout=SECONDS)


def traits(**fields: Any) -> struct_pb2.Struct:
    """Make traits."""
    made = struct_pb2.Struct()
    made.update(fields)
    return made


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "not a number": ({"traits": traits(a=float("nan"))}, "INVALID_PROPERTIES"),
    "no end": ({"traits": traits(a=[{"b": float("-inf")}])}, "INVALID_PROPERTIES"),
    "late": ({"happened_at": timestamp_pb2.Timestamp(seconds=10**15)}, "INVALID_TIMESTAMP"),
    "early": ({"happened_at": timestamp_pb2.Timestamp(seconds=-(10**15))}, "INVALID_TIMESTAMP"),
    "nanoseconds": (
        {"happened_at": timestamp_pb2.Timestamp(nanos=2_000_000_000)},
        "INVALID_TIMESTAMP",
    ),
    "a long source": ({"source": "x" * 100_000}, "INVALID_FIELD"),
    "nul in a source": ({"source": "shop\0"}, "INVALID_FIELD"),
    "a wildcard for a source": ({"source": "*"}, "INVALID_FIELD"),
    "nul for an id": ({"customer_id": "\0"}, "INVALID_FIELD"),
}


@pytest.mark.parametrize("what", FIELDS)
async def test_a_hostile_field_is_refused(edge: Edge, what: str) -> None:
    fields, reason = FIELDS[what]
    found = await refusal(edge.identify(user("1"), **fields))
    assert (found.code, found.reason) == (INVALID, reason)
    assert (await edge.identify(user("1"))).created


@pytest.mark.parametrize("value", ["\0", "a\0b", "\x1b[2J", "a\r\nb", "a\u2028b", "x" * 5_000])
async def test_a_hostile_identifier_is_refused(edge: Edge, value: str) -> None:
    for call in (edge.identify(user(value)), edge.check(user(value)), edge.get(user(value))):
        found = await refusal(call)
        assert (found.code, found.reason) == (INVALID, "INVALID_IDENTIFIER")
        assert value not in found.said
    assert (await edge.identify(user("1"))).created


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (15, None),
        (16, "INVALID_PROPERTIES"),
        (20, "INVALID_PROPERTIES"),
        (90, "INVALID_FIELD"),
        (10_000, "INVALID_FIELD"),
    ],
)
async def test_maps_nest_16_deep_and_whatever_is_deeper_is_refused(
    edge: Edge, depth: int, reason: str | None
) -> None:
    if reason is None:
        assert await send(edge, nested(depth))
    else:
        found = await refusal(send(edge, nested(depth)))
        assert (found.code, found.reason) == (INVALID, reason)
    assert (await edge.identify(user("2"))).created


NOT_REQUESTS: dict[str, bytes] = {
    "no protobuf": b"\xff" * 50,
    "no text": field(5, b"\xed\xa0\x80"),
    "cut short": field(5, b"shop")[:-2],
}


@pytest.mark.parametrize("what", NOT_REQUESTS)
async def test_bytes_that_are_no_request_end_with_a_status(edge: Edge, what: str) -> None:
    found = await refusal(send(edge, NOT_REQUESTS[what]))
    assert (found.code, found.reason) == (INVALID, "INVALID_FIELD")
    assert (await edge.identify(user("1"))).created


async def test_a_request_of_5_megabytes_is_refused_with_its_limit(edge: Edge) -> None:
    found = await refusal(edge.identify(user("1"), traits={"essay": "x" * 5_000_000}))
    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in found.said
    assert (await edge.identify(user("1"))).created


async def test_escaped_surrogates_and_odd_keys_in_open_maps_come_back_as_sent(edge: Edge) -> None:
    odd = {"": "nothing", "a.b": "\\ud800", "\u202e": "\U0001f600", "nul": "a\0b"}
    done = await edge.identify(user("1"), traits=odd)
    seen = await edge.get(user("1"), at_least_revision=done.revision)
    assert {trait.key: trait.value.string_value for trait in seen.traits} == odd


@pytest.mark.parametrize("number", [1e308, -1e308, 5e-324, 0.1, -0.0, 2.0**53, 1e22])
async def test_extreme_numbers_come_back_as_sent(edge: Edge, number: float) -> None:
    [outcome] = await edge.ingest(signal("m1", user("1"), amount=number))
    seen = await edge.get(user("1"), at_least_revision=outcome.revision)
    assert float(seen.signals[0].sums["amount"]) == number


async def test_a_revision_beyond_all_waits_no_longer_than_the_deadline(edge: Edge) -> None:
    await edge.identify(user("1"))
    request = query_service_pb2.GetCustomerRequest(
        identifier=user("1"), purpose="service", at_least_revision=2**64 - 1
    )
    found = await refusal(edge.query.GetCustomer(request, timeout=0.3))
    assert found.reason == "REVISION_NOT_REACHED"


@pytest.mark.parametrize("seconds", [0.0, 0.001])
async def test_a_call_whose_time_is_over_stores_at_most_once(edge: Edge, seconds: float) -> None:
    request = customer_service_pb2.IdentifyRequest(identifiers=[user("1")], source="shop")
    call = edge.customer.Identify(request, timeout=seconds)
    if await call.code() is not grpc.StatusCode.OK:  # a fast machine may answer in a millisecond
        found = await refusal(call)
        late = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        assert found.code in late or found.reason == "UNKNOWN_OUTCOME"
    known = [(await edge.identify(user("1"))).customer_id for _ in range(2)]
    assert len(set(known)) == 1


async def test_callers_that_go_away_leave_the_gateway_well(edge: Edge) -> None:
    def start(number: int) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        request = customer_service_pb2.IdentifyRequest(
            identifiers=[user(str(number))], source="shop"
        )
        return edge.customer.Identify(request, timeout=SECONDS)

    calls = [start(number) for number in range(200)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    assert (await edge.identify(user("last"))).created


async def test_many_calls_at_once_about_one_person_end_as_one_customer(edge: Edge) -> None:
    done = await asyncio.gather(
        *(edge.identify(user("1"), loyalty(str(number))) for number in range(200))
    )
    assert len({answer.customer_id for answer in done}) == 1
    assert sum(answer.created for answer in done) == 1
