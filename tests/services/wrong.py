"""Wrong requests, made of a sound one by its descriptor: each field in turn, by each fault.

Nothing here knows a method: a field that is added to the contract is spoilt from then on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

PLANTED = "Ada-Lovelace-1815"
"""Stands in every text that is spoilt: whoever finds it in an answer has found what was sent."""

TEXTS = {
    "garbage": f"{PLANTED}\0\r\n*.> \x1b[2J",
    "oversized": PLANTED + "x" * 70_000,
    "foreign": f"{PLANTED}é\u202e'; --",
}
ITEMS_TOO_MANY = 2_000
DEEP_MAX = 4
NO_TEXT = b"\xed\xa0\x80"
"""Half of a surrogate pair: what no UTF-8 holds."""

_EXTREMES: dict[int, tuple[str, Any]] = {
    FieldDescriptor.TYPE_ENUM: ("unknown", 99),
    FieldDescriptor.TYPE_UINT32: ("largest", 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: ("largest", 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: ("endless", float("nan")),
}
_WELL_KNOWN = {
    "google.protobuf.Timestamp": {
        "late": {"seconds": 10**15},
        "early": {"seconds": -(10**15)},
        "broken": {"nanos": 2_000_000_000},
    },
}


class Wrong(NamedTuple):
    """A request with one fault, as it goes over the wire; `field` is where, by its path."""

    field: str
    fault: str
    request: bytes

    def __str__(self) -> str:
        return f"{self.field} {self.fault}"


def wrong_requests(sound: Message) -> Iterator[Wrong]:
    """Spoil each field of a request in turn, and of the messages in it."""
    yield Wrong("", "no message", b"\xff" * 50)
    yield Wrong("", "nothing", b"")
    for path, spoil in _faults_of(sound, ()):
        field, fault = path
        spoilt = copy.deepcopy(sound)
        spoil(spoilt)
        yield Wrong(field, fault, spoilt.SerializeToString())
    for descriptor in sound.DESCRIPTOR.fields:
        if descriptor.type == FieldDescriptor.TYPE_STRING:
            tag = bytes([descriptor.number << 3 | 2, len(NO_TEXT)])
            yield Wrong(descriptor.name, "no text", sound.SerializeToString() + tag + NO_TEXT)


Spoil = Callable[[Any], None]
Path = tuple[str, ...]


def _faults_of(message: Message, above: Path) -> Iterator[tuple[tuple[str, str], Spoil]]:
    for descriptor in message.DESCRIPTOR.fields:
        path = (*above, descriptor.name)
        for fault, spoil in _faults(message, descriptor):
            yield (".".join(path), fault), _at(above, spoil)
        inner = _inner(message, descriptor)
        if inner is not None and len(path) < DEEP_MAX:
            yield from _faults_of(inner, path)


def _inner(message: Any, descriptor: Any) -> Message | None:
    """Give the message that stands in a field, or is its first item."""
    kind = descriptor.message_type
    if kind is None or kind.full_name.startswith("google.protobuf.") or _is_map(descriptor):
        return None
    value = getattr(message, descriptor.name)
    if descriptor.is_repeated:
        return value[0] if value else None
    return value if message.HasField(descriptor.name) else None


def _at(path: Path, spoil: Spoil) -> Spoil:
    """Spoil what stands in a message."""

    def spoil_inside(message: Any) -> None:
        for name in path:
            value = getattr(message, name)
            message = value if isinstance(value, Message) else value[0]
        spoil(message)

    return spoil_inside


def _faults(message: Any, descriptor: Any) -> Iterator[tuple[str, Spoil]]:
    name = descriptor.name
    if descriptor.type == FieldDescriptor.TYPE_BOOL:
        return  # Either value is right.
    if name in {given.name for given, _ in message.ListFields()}:
        yield "missing", lambda spoilt: spoilt.ClearField(name)
    if _is_map(descriptor):
        yield from _faults_of_map(name, descriptor)
    elif descriptor.is_repeated:
        yield from _faults_of_list(message, descriptor)
    elif descriptor.message_type is not None:
        yield from _faults_of_message(name, descriptor)
    elif descriptor.type == FieldDescriptor.TYPE_STRING:
        for fault, text in TEXTS.items():
            yield fault, _setting(name, text)
        if descriptor.has_presence:
            yield "empty", _setting(name, "")
    elif descriptor.type in _EXTREMES:
        fault, value = _EXTREMES[descriptor.type]
        yield fault, _setting(name, value)


def _faults_of_message(name: str, descriptor: Any) -> Iterator[tuple[str, Spoil]]:
    kind = descriptor.message_type
    for fault, fields in _WELL_KNOWN.get(kind.full_name, {}).items():
        made = message_factory.GetMessageClass(kind)(**fields)
        yield fault, _copying(name, made)
    if kind.full_name == "google.protobuf.Struct":
        yield "endless", lambda spoilt: getattr(spoilt, name).update({PLANTED: float("inf")})


def _faults_of_list(message: Any, descriptor: Any) -> Iterator[tuple[str, Spoil]]:
    name = descriptor.name
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        for fault, text in (*TEXTS.items(), ("empty", "")):
            yield fault, _extending(name, [text])
        yield "too many", _extending(name, [f"a{number}" for number in range(ITEMS_TOO_MANY)])
    elif descriptor.message_type is not None:
        held = list(getattr(message, name))
        yield "empty", lambda spoilt: getattr(spoilt, name).add()
        if held:
            yield "too many", _extending(name, held[:1] * ITEMS_TOO_MANY)


def _faults_of_map(name: str, descriptor: Any) -> Iterator[tuple[str, Spoil]]:
    key, value = descriptor.message_type.fields
    keys: dict[str, Any] = {"largest": 2**32 - 1}
    if key.type == FieldDescriptor.TYPE_STRING:
        keys = {**TEXTS}
    for fault, wrong in keys.items():
        if value.message_type is not None:
            yield fault, _touching(name, wrong)
        else:
            yield fault, _updating(name, {wrong: PLANTED})


def _setting(name: str, value: object) -> Spoil:
    return lambda spoilt: setattr(spoilt, name, value)


def _copying(name: str, value: Message) -> Spoil:
    return lambda spoilt: getattr(spoilt, name).CopyFrom(value)


def _extending(name: str, items: list[Any]) -> Spoil:
    return lambda spoilt: getattr(spoilt, name).extend(items)


def _updating(name: str, entries: dict[Any, str]) -> Spoil:
    return lambda spoilt: getattr(spoilt, name).update(entries)


def _touching(name: str, key: object) -> Spoil:
    return lambda spoilt: getattr(spoilt, name)[key].SetInParent()


def _is_map(descriptor: Any) -> bool:
    kind = descriptor.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)
