from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import CommandId, DecisionId, EventId
from eventlog.envelope import (
    HEADERS,
    Envelope,
    EnvelopeUnreadable,
    build_headers,
    event_digest,
    extend_log_digest,
    parse_headers,
)
from eventlog.wire import header_block, parse_header_block

texts = st.text()
times = st.datetimes(timezones=st.just(UTC))
positive = st.integers(min_value=1, max_value=2**63 - 1)
envelopes = st.builds(
    Envelope,
    event_id=texts,
    event_type=texts,
    workspace=texts,
    happened_at=times,
    recorded_at=times,
    command_id=texts,
    correlation_id=texts,
    auth_id=texts,
    version=positive,
    previous=st.binary(min_size=32, max_size=32),
    key_id=texts,
    decision_id=texts,
    part=positive,
    parts=positive,
)

ENVELOPE = Envelope(
    event_id=EventId("01890000-0000-7000-8000-000000000001"),
    event_type="koseki.consent.given.v1",
    workspace="shop",
    happened_at=datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC),
    recorded_at=datetime(2026, 3, 1, 21, 0, 1, tzinfo=timezone(timedelta(hours=9))),
    command_id=CommandId("01890000-0000-7000-8000-000000000002"),
    correlation_id="",
    auth_id="user:é\r\n",
    version=7,
    previous=bytes(range(32)),
    key_id="none",
    decision_id=DecisionId("01890000-0000-7000-8000-000000000003"),
    part=2,
    parts=3,
)
GOLDEN_HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "01890000-0000-7000-8000-000000000001",
    "ce-type": "koseki.consent.given.v1",
    "ce-source": "koseki/shop",
    "ce-time": "2026-03-01T12:00:00.000005Z",
    "ce-recordedtime": "2026-03-01T12:00:01.000000Z",
    "ce-causationid": "01890000-0000-7000-8000-000000000002",
    "ce-correlationid": "",
    "ce-authid": "user:%C3%A9%0D%0A",
    "koseki-version": "7",
    "koseki-previous": bytes(range(32)).hex(),
    "koseki-keyid": "none",
    "koseki-decision": "01890000-0000-7000-8000-000000000003",
    "koseki-part": "2/3",
}
SUBJECT = "koseki.shop.record.x"


def test_headers_are_those_that_were_released() -> None:
    assert build_headers(ENVELOPE) == GOLDEN_HEADERS
    assert tuple(build_headers(ENVELOPE)) == HEADERS


@given(envelopes)
def test_reading_undoes_writing_over_the_wire(envelope: Envelope) -> None:
    block = header_block(build_headers(envelope))
    assert parse_headers(parse_header_block(block)) == envelope


@given(envelopes)
def test_header_values_are_printable_ascii_without_spaces_around(envelope: Envelope) -> None:
    for value in build_headers(envelope).values():
        assert value.isascii()
        assert not value or value.isprintable()
        assert value == value.strip()


def test_the_digest_is_the_one_that_was_released() -> None:
    names = list(GOLDEN_HEADERS)
    values = list(GOLDEN_HEADERS.values())
    parts = [SUBJECT, *values, '{"a":1}']
    expected = hashlib.sha256(
        b"".join(struct.pack(">I", len(part)) for part in parts)
        + SUBJECT.encode()
        + b"".join(struct.pack(">I", len(name)) + name.encode() for name in names)
        + "".join(values).encode()
        + b'{"a":1}'
    ).digest()
    assert event_digest(SUBJECT, GOLDEN_HEADERS, b'{"a":1}') == expected
    assert expected.hex() == "6427d1699f07c097d54da75cabe779a3784662a4656da16813c9ba96a3a6b05d"


@pytest.mark.parametrize("name", HEADERS)
def test_the_digest_covers_every_header_and_its_absence(name: str) -> None:
    whole = event_digest(SUBJECT, GOLDEN_HEADERS, b"{}")
    changed = {**GOLDEN_HEADERS, name: GOLDEN_HEADERS[name] + "x"}
    emptied = {**GOLDEN_HEADERS, name: ""}
    missing = {n: v for n, v in GOLDEN_HEADERS.items() if n != name}
    digests = {event_digest(SUBJECT, h, b"{}") for h in (changed, missing)}
    assert whole not in digests
    assert len(digests) == 2
    assert event_digest(SUBJECT, emptied, b"{}") != event_digest(SUBJECT, missing, b"{}")


def test_the_digest_covers_subject_and_body_and_where_one_ends() -> None:
    digests = {
        event_digest("a.b", {}, b"c"),
        event_digest("a.bc", {}, b""),
        event_digest("a.", {}, b"bc"),
        event_digest("a.b", {"ce-id": "c"}, b""),
        event_digest("a.b", {"ce-type": "c"}, b""),
    }
    assert len(digests) == 5


def test_the_digest_leaves_out_what_the_server_adds() -> None:
    stored = {"Nats-Sequence": "9", **GOLDEN_HEADERS, "Nats-Batch-Id": "b"}
    assert event_digest(SUBJECT, stored, b"") == event_digest(SUBJECT, GOLDEN_HEADERS, b"")


def test_the_log_digest_depends_on_order_and_revision() -> None:
    zero, a, b = bytes(32), bytes([1]) * 32, bytes([2]) * 32
    one = extend_log_digest(zero, 1, a)
    assert one == hashlib.sha256(zero + b"\0\0\0\0\0\0\0\1" + a).digest()
    two = extend_log_digest(one, 2, b)
    assert two != extend_log_digest(extend_log_digest(zero, 1, b), 2, a)
    assert one != extend_log_digest(zero, 2, a)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce-specversion", "2.0"),
        ("ce-time", "yesterday"),
        ("ce-time", "2026-03-01T12:00:00"),
        ("koseki-version", "one"),
        ("koseki-previous", "00"),
        ("koseki-part", "1"),
    ],
)
def test_headers_of_another_form_are_unreadable(name: str, value: str) -> None:
    with pytest.raises(EnvelopeUnreadable):
        parse_headers({**GOLDEN_HEADERS, name: value})


@pytest.mark.parametrize("name", HEADERS)
def test_a_missing_header_is_named(name: str) -> None:
    with pytest.raises(EnvelopeUnreadable, match=name):
        parse_headers({n: v for n, v in GOLDEN_HEADERS.items() if n != name})


def test_times_without_a_zone_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="zone"):
        build_headers(ENVELOPE._replace(happened_at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_every_field_of_the_envelope_reaches_the_headers() -> None:
    changes: dict[str, Any] = {
        "happened_at": ENVELOPE.happened_at + timedelta(seconds=1),
        "recorded_at": ENVELOPE.recorded_at + timedelta(seconds=1),
        "previous": bytes(32),
    }
    for name in Envelope._fields:
        value = getattr(ENVELOPE, name)
        other: Any = f"{value}x" if isinstance(value, str) else changes.get(name, 9)
        assert build_headers(ENVELOPE._replace(**{name: other})) != GOLDEN_HEADERS
