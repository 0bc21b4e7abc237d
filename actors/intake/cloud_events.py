"""Decode a message of a publisher into items: CloudEvents whose data is a Segment-spec call. Pure.

Called by the worker for each message. Knows the three forms of CloudEvents on NATS: structured (one
JSON object), binary (attributes in `ce-` headers) and batch (a JSON list). Items are judged one by
one: what is wrong with one says nothing of the others.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

from actors.intake.identifiers import IdentifierNormaliser
from actors.intake.json_values import parse_json
from actors.intake.port import IntakeMessage
from actors.intake.segment_spec import (
    DecodedCall,
    Surroundings,
    check_message_id,
    decode_call,
    parse_time,
)
from domain.errors import Invalid

MESSAGE_BYTES_MAX = 1_048_576
CALL_BYTES_MAX = 262_144
"""One call; an event of the log holds at least one, and has to fit into one message of NATS."""
BATCH_ITEMS_MAX = 10_000
ATTRIBUTE_CHARACTERS_MAX = 2_048
SUBJECT_TOKENS_MAX = 2
"""After the prefix: the source, and a key where order matters."""

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
SPEC_VERSION = "1.0"

_SOURCE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_JSON_TYPE = re.compile(r"application/([a-z0-9.!#$&^_-]+\+)?json|text/json")

JsonObject = Mapping[str, Any]  # Any: a publisher's JSON, before it is checked


@dataclass(frozen=True, slots=True)
class Decoded:
    """An item that can be used; `size_bytes` is what it takes as JSON."""

    call: DecodedCall
    size_bytes: int
    data: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An item that cannot be used, why, and what is to be kept of it."""

    reason: str
    data: bytes
    headers: Mapping[str, str]


Item = Decoded | Rejection


def source_of(subject: str, *, prefix: str) -> str:
    """Read the source from `<prefix>.<source>[.<key>]`, or raise `Invalid` / INVALID_SOURCE."""
    head, _, rest = subject.partition(f"{prefix}.")
    tokens = rest.split(".")
    is_sound = not head and len(tokens) <= SUBJECT_TOKENS_MAX and all(tokens)
    if not is_sound or not _SOURCE.fullmatch(tokens[0]):
        raise Invalid("INVALID_SOURCE", "the subject does not name a source")
    return tokens[0]


def decode_message(message: IntakeMessage, *, normaliser: IdentifierNormaliser) -> list[Item]:
    """Decode a message into its items; never raises, whatever the bytes."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == BATCH:
        try:
            return _decode_batch(message, normaliser)
        except Invalid as fault:
            return [Rejection(fault.reason, message.data, message.headers)]

    def decode() -> DecodedCall:
        if content_type != STRUCTURED and any(name.startswith("ce-") for name in headers):
            return _decode_binary(
                message, headers, content_type=content_type, normaliser=normaliser
            )
        if content_type and content_type != STRUCTURED and not _JSON_TYPE.fullmatch(content_type):
            raise Invalid("NOT_A_CLOUD_EVENT", "the content type is not one of CloudEvents")
        _check_size(len(message.data))
        return _decode_event(parse_json(message.data), message, normaliser=normaliser)

    return [_judge(decode, message.data, headers=message.headers)]


def _judge(decode: Callable[[], DecodedCall], data: bytes, *, headers: Mapping[str, str]) -> Item:
    try:
        return Decoded(decode(), len(data), data, headers)
    except Invalid as fault:
        return Rejection(fault.reason, data, headers)


def _decode_batch(message: IntakeMessage, normaliser: IdentifierNormaliser) -> list[Item]:
    if len(message.data) > MESSAGE_BYTES_MAX:
        raise Invalid("TOO_LARGE", f"a message has at most {MESSAGE_BYTES_MAX} bytes")
    events = parse_json(message.data)
    if not isinstance(events, list):
        raise Invalid("NOT_A_CLOUD_EVENT", "a batch is a list")
    if len(events) > BATCH_ITEMS_MAX:
        raise Invalid("TOO_MANY_ITEMS", f"a batch has at most {BATCH_ITEMS_MAX} items")
    return [_decode_item(event, message, normaliser=normaliser) for event in events]


def _decode_item(
    event: object, message: IntakeMessage, *, normaliser: IdentifierNormaliser
) -> Item:
    """Decode one item of a batch; it is kept, if need be, as a structured message of its own."""
    headers = {"content-type": STRUCTURED}
    try:
        data = orjson.dumps(event)
    except orjson.JSONEncodeError:  # nested deeper than can be written: keep the whole batch
        return Rejection("INVALID_PROPERTIES", message.data, message.headers)

    def decode() -> DecodedCall:
        _check_size(len(data))
        return _decode_event(event, message, normaliser=normaliser)

    return _judge(decode, data, headers=headers)


def _decode_event(
    event: object, message: IntakeMessage, *, normaliser: IdentifierNormaliser
) -> DecodedCall:
    """Decode a CloudEvent in its JSON form."""
    if not isinstance(event, dict):
        raise Invalid("NOT_A_CLOUD_EVENT", "a CloudEvent is an object")
    around = _attributes(event, message)
    return _decode_data(_event_data(event), around, normaliser=normaliser)


def _decode_binary(
    message: IntakeMessage,
    headers: Mapping[str, str],
    *,
    content_type: str,
    normaliser: IdentifierNormaliser,
) -> DecodedCall:
    """Decode a CloudEvent whose attributes are headers; their values are percent-encoded."""
    if content_type and not _JSON_TYPE.fullmatch(content_type):
        raise Invalid("NOT_A_CLOUD_EVENT", "the content type of the data is not JSON")
    _check_size(len(message.data))
    event = {
        name.removeprefix("ce-"): unquote(value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    around = _attributes(event, message)
    return _decode_data(parse_json(message.data), around, normaliser=normaliser)


def _attributes(event: JsonObject, message: IntakeMessage) -> Surroundings:
    """Check what CloudEvents 1.0 requires: specversion, id, source and type."""
    if event.get("specversion") != SPEC_VERSION:
        raise Invalid("NOT_A_CLOUD_EVENT", "the specversion is not 1.0")
    if event.get("id") is None:
        raise Invalid("MISSING_ID", "the CloudEvent has no id")
    message_id = check_message_id(event["id"])
    for name in ("source", "type"):
        value = event.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= ATTRIBUTE_CHARACTERS_MAX:
            raise Invalid("NOT_A_CLOUD_EVENT", f"the CloudEvent has no valid {name}")
    time = event.get("time")
    return Surroundings(
        message_id=message_id,
        call_type=event["type"].rpartition(".")[2],
        happened_at=message.received_at if time is None else parse_time(time),
    )


def _event_data(event: JsonObject) -> object:
    encoded = event.get("data_base64")
    if encoded is None:
        return event.get("data")
    try:
        return parse_json(b64decode(encoded, validate=True))
    except (Base64Error, TypeError, ValueError):
        raise Invalid("MALFORMED_JSON", "data_base64 does not hold JSON") from None


def _decode_data(
    call: object, around: Surroundings, *, normaliser: IdentifierNormaliser
) -> DecodedCall:
    if not isinstance(call, dict):
        raise Invalid("INVALID_DATA", "the data of the CloudEvent is not a call")
    return decode_call(call, around, normaliser=normaliser)


def _check_size(size_bytes: int) -> None:
    if size_bytes > CALL_BYTES_MAX:
        raise Invalid("TOO_LARGE", f"a call has at most {CALL_BYTES_MAX} bytes")
