"""Decoding what publishers send: every form of CloudEvents, every call, every way to be wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.intake.cloud_events import (
    CALL_BYTES_MAX,
    Decoded,
    Item,
    Rejection,
    decode_message,
    source_of,
)
from actors.intake.segment_spec import ConsentCall, IdentifyCall, SignalCall
from domain.errors import Invalid
from domain.signals import Signal
from tests.intake.messages import (
    JSON,
    NORMALISER,
    PREFIX,
    RECEIVED_AT,
    event,
    identify,
    message,
    track,
)

BATCH = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}


def decode(body: object, headers: dict[str, str] | None = None) -> list[Item]:
    return decode_message(message(body, headers=headers), normaliser=NORMALISER)


def one_call(call: JSON, **attributes: Any) -> IdentifyCall | SignalCall:
    (item,) = decode(event(call, **attributes))
    assert isinstance(item, Decoded), item
    assert not isinstance(item.call, ConsentCall)
    return item.call


def one_signal(call: JSON, **attributes: Any) -> Signal:
    decoded = one_call(call, **attributes)
    assert isinstance(decoded, SignalCall)
    return decoded.signal


def reasons(items: list[Item]) -> list[str | None]:
    return [item.reason if isinstance(item, Rejection) else None for item in items]


def values(decoded: IdentifyCall | SignalCall) -> list[tuple[str, str]]:
    return [(identifier.namespace, identifier.value) for identifier in decoded.identifiers]


def test_a_track_becomes_a_signal_with_everything_it_said() -> None:
    call = track(
        messageId="line-7",
        timestamp="1997-01-12T00:00:00+09:00",
        properties={"cds": 2, "dollars": 29.33},
        context={"ip": "203.0.113.9"},
    )
    decoded = one_call(call)
    assert values(decoded) == [("user_id", "1")]
    signal = one_signal(call)
    assert (signal.message_id, signal.kind, signal.name) == ("line-7", "track", "Order Completed")
    assert signal.happened_at == datetime(1997, 1, 11, 15, tzinfo=UTC)
    assert signal.properties == {"cds": 2, "dollars": 29.33}
    assert signal.context == {"ip": "203.0.113.9"}


def test_what_a_call_leaves_out_is_taken_from_the_cloud_event_then_from_intake() -> None:
    call = {"event": "Seen", "userId": 12}
    signal = one_signal(call, id="ce-9", time="2026-10-01T00:00:00.5Z")
    assert signal.message_id == "ce-9"
    assert signal.happened_at == datetime(2026, 10, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert one_signal(call).happened_at == RECEIVED_AT
    assert values(one_call(call)) == [("user_id", "12")]


def test_every_way_to_name_a_person_is_read() -> None:
    external = [
        {"type": "loyalty_id", "id": "L1", "collection": "users", "encoding": "none"},
        {"type": "ga_client_id", "id": "not ours"},
    ]
    decoded = one_call(track(anonymousId="a1", context={"externalIds": external}))
    assert values(decoded) == [("user_id", "1"), ("loyalty_id", "L1"), ("anonymous_id", "a1")]


def test_an_identify_takes_valid_contact_traits_as_identifiers_and_leaves_others_be() -> None:
    traits = {"email": "A@Example.com", "phone": "090", "name": "T"}
    decoded = one_call(identify(traits=traits))
    assert isinstance(decoded, IdentifyCall)
    assert values(decoded) == [("user_id", "1"), ("email", "a@example.com")]
    assert decoded.traits == traits


def test_an_alias_joins_both_ids() -> None:
    decoded = one_call({"type": "alias", "previousId": "a9", "userId": "1"})
    assert isinstance(decoded, IdentifyCall)
    assert values(decoded) == [("user_id", "1"), ("anonymous_id", "a9")]


@pytest.mark.parametrize(
    ("call", "kind", "name"),
    [
        ({"type": "page", "name": "Home"}, "page", "Viewed Home Page"),
        ({"type": "page", "properties": {"name": "Cart"}}, "page", "Viewed Cart Page"),
        ({"type": "page"}, "page", "Loaded a Page"),
        ({"type": "screen", "name": "Main"}, "screen", "Viewed Main Screen"),
        ({"type": "screen", "name": ""}, "screen", "Loaded a Screen"),
        ({"type": "group", "groupId": "g1", "traits": {"size": 3}}, "group", "Group"),
    ],
)
def test_other_calls_are_named_as_destinations_name_them(call: JSON, kind: str, name: str) -> None:
    signal = one_signal({**call, "userId": "1"})
    assert (signal.kind, signal.name) == (kind, name)
    if kind == "group":
        assert signal.properties == {"groupId": "g1", "traits": {"size": 3}}


def test_the_call_type_comes_from_the_event_where_the_call_has_none() -> None:
    assert one_signal({"userId": "1"}, type="com.example.page").kind == "page"
    assert one_signal({"userId": "1", "type": "screen"}, type="anything").kind == "screen"


def test_binary_mode_reads_attributes_from_headers() -> None:
    headers = {
        "ce-specversion": "1.0",
        "Ce-Id": "caf%C3%A9 1",
        "ce-source": "/shop",
        "ce-type": "com.segment.track",
        "ce-time": "2026-10-01T00:00:00Z",
        "content-type": "application/json",
    }
    (item,) = decode(track(), headers)
    assert isinstance(item, Decoded)
    assert isinstance(item.call, SignalCall)
    assert item.call.signal.message_id == "café 1"
    assert reasons(decode(b"{", headers)) == ["MALFORMED_JSON"]
    assert reasons(decode(track(), {**headers, "ce-source": ""})) == ["NOT_A_CLOUD_EVENT"]
    assert reasons(decode(track(), {**headers, "Ce-Id": "%FF"})) == ["INVALID_MESSAGE_ID"]
    assert reasons(decode(track(), {**headers, "content-type": "text/plain"})) == [
        "NOT_A_CLOUD_EVENT"
    ]


def test_items_of_a_batch_are_judged_one_by_one() -> None:
    items = decode([event(track()), 7, event(track(userId=None)), event(identify())], BATCH)
    assert reasons(items) == [None, "NOT_A_CLOUD_EVENT", "MISSING_IDENTIFIER", None]
    rejected = items[2]
    assert isinstance(rejected, Rejection)
    assert orjson.loads(rejected.data) == event(track(userId=None))
    assert reasons(decode_message(message(rejected.data), normaliser=NORMALISER)) == [
        "MISSING_IDENTIFIER"
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[", "MALFORMED_JSON"),
        (b"{}", "NOT_A_CLOUD_EVENT"),
        (b"[" + b"[" * 400 + b"]" * 400 + b"]", "INVALID_PROPERTIES"),
        (b"[" * 5_000, "MALFORMED_JSON"),
        (b"[" + b"0," * 10_000 + b"0]", "TOO_MANY_ITEMS"),
        (b" " * 1_048_577, "TOO_LARGE"),
    ],
)
def test_a_batch_that_is_none_is_rejected_whole(body: bytes, reason: str) -> None:
    assert reasons(decode(body, BATCH)) == [reason]


def test_an_empty_batch_holds_nothing() -> None:
    assert decode([], BATCH) == []


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"specversion": "0.3"}, "NOT_A_CLOUD_EVENT"),
        ({"specversion": None}, "NOT_A_CLOUD_EVENT"),
        ({"source": None}, "NOT_A_CLOUD_EVENT"),
        ({"source": 5}, "NOT_A_CLOUD_EVENT"),
        ({"type": None}, "NOT_A_CLOUD_EVENT"),
        ({"id": None}, "MISSING_ID"),
        ({"id": ""}, "INVALID_MESSAGE_ID"),
        ({"id": "a\u0000b"}, "INVALID_MESSAGE_ID"),
        ({"id": "a\nb"}, "INVALID_MESSAGE_ID"),
        ({"id": "x" * 257}, "INVALID_MESSAGE_ID"),
        ({"id": 5}, "INVALID_MESSAGE_ID"),
        ({"time": "2026-10-01T00:00:00"}, "INVALID_TIMESTAMP"),
        ({"time": 5}, "INVALID_TIMESTAMP"),
        ({"data": None}, "INVALID_DATA"),
        ({"data": "{}"}, "INVALID_DATA"),
        ({"data": None, "data_base64": "e30"}, "MALFORMED_JSON"),
        ({"data": None, "data_base64": 5}, "MALFORMED_JSON"),
        ({"data": None, "data_base64": "e30="}, "MISSING_EVENT_NAME"),
    ],
)
def test_what_is_wrong_with_an_event_has_a_stable_reason(attributes: JSON, reason: str) -> None:
    assert reasons(decode(event(track(), **attributes))) == [reason]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "delete"}, "UNKNOWN_CALL"),
        ({"type": 5}, "UNKNOWN_CALL"),
        ({"userId": None}, "MISSING_IDENTIFIER"),
        ({"userId": ""}, "EMPTY_IDENTIFIER"),
        ({"userId": "  "}, "EMPTY_IDENTIFIER"),
        ({"userId": ["1"]}, "INVALID_IDENTIFIER"),
        ({"userId": True}, "INVALID_IDENTIFIER"),
        ({"userId": 1.5}, "INVALID_IDENTIFIER"),
        ({"userId": "a\u0007"}, "INVALID_IDENTIFIER"),
        ({"context": {"externalIds": {}}}, "INVALID_IDENTIFIER"),
        ({"context": {"externalIds": ["x"]}}, "INVALID_IDENTIFIER"),
        ({"context": {"externalIds": [{"type": "email", "id": "x"}]}}, "INVALID_IDENTIFIER"),
        ({"context": {"externalIds": [{"type": "email"}]}}, "EMPTY_IDENTIFIER"),
        ({"context": {"externalIds": [{}] * 33}}, "TOO_MANY_IDENTIFIERS"),
        ({"context": []}, "INVALID_CONTEXT"),
        ({"event": None}, "MISSING_EVENT_NAME"),
        ({"event": " "}, "MISSING_EVENT_NAME"),
        ({"event": 5}, "INVALID_EVENT_NAME"),
        ({"event": "a\u0000b"}, "INVALID_EVENT_NAME"),
        ({"event": "x" * 257}, "INVALID_EVENT_NAME"),
        ({"type": "page", "name": "x" * 250}, "INVALID_EVENT_NAME"),
        ({"timestamp": "yesterday"}, "INVALID_TIMESTAMP"),
        ({"timestamp": "2026-02-30T00:00:00Z"}, "INVALID_TIMESTAMP"),
        ({"timestamp": "2026-10-01T00:00:00"}, "INVALID_TIMESTAMP"),
        ({"timestamp": "2026-10-01"}, "INVALID_TIMESTAMP"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "INVALID_TIMESTAMP"),
        ({"timestamp": "\u0662\u066026-10-01T00:00:00Z"}, "INVALID_TIMESTAMP"),
        ({"messageId": ""}, "INVALID_MESSAGE_ID"),
        ({"messageId": "a\u001bb"}, "INVALID_MESSAGE_ID"),
        ({"messageId": "\ufffd"}, "INVALID_MESSAGE_ID"),
        ({"properties": []}, "INVALID_PROPERTIES"),
        ({"properties": "x"}, "INVALID_PROPERTIES"),
        ({"properties": {"a\u0000": 1}}, "INVALID_PROPERTIES"),
        ({"properties": {"x" * 257: 1}}, "INVALID_PROPERTIES"),
        ({"properties": {"x": "y" * CALL_BYTES_MAX}}, "TOO_LARGE"),
        ({"type": "identify", "traits": 5}, "INVALID_TRAITS"),
        ({"type": "group"}, "MISSING_GROUP_ID"),
        ({"type": "alias"}, "MISSING_IDENTIFIER"),
        ({"type": "alias", "previousId": ""}, "EMPTY_IDENTIFIER"),
    ],
)
def test_what_is_wrong_with_a_call_has_a_stable_reason(fields: JSON, reason: str) -> None:
    assert reasons(decode(event(track(**fields)))) == [reason]


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (b'{"x": NaN}', "MALFORMED_JSON"),
        (b'{"x": 1e999}', "MALFORMED_JSON"),
        (b'{"x": "\\ud800"}', "MALFORMED_JSON"),
        (b'{"x": "\xff"}', "MALFORMED_JSON"),
        (b'{"x": ' + b"[" * 16 + b"]" * 16 + b"}", "INVALID_PROPERTIES"),
        (b'{"x": ' + b"[" * 1_000 + b"]" * 1_000 + b"}", "INVALID_PROPERTIES"),
        (b'{"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "MALFORMED_JSON"),
        (b'{"x": "\\u0000", "y": 18446744073709551615, "z": -1e-300}', None),
        (b'{"x": 123456789012345678901234567890}', None),
    ],
)
def test_numbers_and_texts_at_the_edge_are_carried_or_refused(
    properties: bytes, reason: str | None
) -> None:
    body = orjson.dumps(event(track(properties="@"))).replace(b'"@"', properties)
    assert reasons(decode(body)) == [reason]


@pytest.mark.parametrize("subject", ["shop", "shop.key-1", "s_2.a b", f"{'s' * 64}"])
def test_the_source_is_read_from_the_subject(subject: str) -> None:
    assert source_of(f"{PREFIX}.{subject}", prefix=PREFIX) == subject.partition(".")[0]


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "*",
        ">",
        "sh*p",
        "sh op",
        "Shop",
        "shop.",
        "shop.a.b",
        "1shop",
        "s" * 65,
        "a\x01",
        "\ufffd",
    ],
)
def test_a_subject_that_names_no_source_is_refused(subject: str) -> None:
    with pytest.raises(Invalid) as refused:
        source_of(f"{PREFIX}.{subject}", prefix=PREFIX)
    assert refused.value.reason == "INVALID_SOURCE"
    with pytest.raises(Invalid):
        source_of(f"x{PREFIX}.shop", prefix=PREFIX)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        *("type", "event", "userId", "anonymousId", "previousId", "groupId", "messageId"),
        *("name", "timestamp", "properties", "traits", "context"),
    ]
)
ODD_CALLS = st.builds(
    lambda fields: {**track(), **fields},
    st.dictionaries(
        FIELDS, JSON_VALUES | st.sampled_from(["identify", "page", "screen", "group", "alias"])
    ),
)


@settings(max_examples=150, deadline=None)
@given(ODD_CALLS, st.dictionaries(st.sampled_from(["id", "time", "type", "data"]), JSON_VALUES))
def test_no_call_makes_the_decoder_fail(call: JSON, attributes: JSON) -> None:
    whole = event(call, **attributes)
    for items in (decode(whole), decode([whole, call], BATCH)):
        assert all(isinstance(item, Decoded | Rejection) for item in items)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(["content-type", "Content-Type", "ce-id", "ce-type", "ce-specversion"])
        | st.text(max_size=5),
        st.text(max_size=20) | st.sampled_from([BATCH["Content-Type"], "1.0"]),
    ),
)
def test_no_bytes_and_no_headers_make_the_decoder_fail(
    data: bytes, headers: dict[str, str]
) -> None:
    for item in decode(data, headers):
        assert isinstance(item, Decoded | Rejection)
