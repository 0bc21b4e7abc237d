"""Decode one call of the Segment spec: identify, track, page, screen, group or alias. Pure.

`cloud_events.py` calls it with the call as JSON gave it and what the CloudEvent around it says.
Whatever is wrong is an `Invalid` with a stable reason and no value in its message. Numbers are what
JSON libraries agree on: 64-bit integers and IEEE doubles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from pydantic import ValidationError

from actors.intake.consent_choices import category_preferences
from actors.intake.identifiers import (
    REPLACEMENT_CHARACTER,
    Blocked,
    IdentifierNormaliser,
    has_unprintable,
)
from actors.intake.json_values import check_json
from domain.consent import ConsentState
from domain.errors import Invalid
from domain.identity import Identifier, LeftOut
from domain.ids import OpenMap
from domain.signals import Signal

MESSAGE_ID_CHARACTERS_MAX = 256
NAME_CHARACTERS_MAX = 256
IDENTIFIERS_PER_CALL_MAX = 32

JsonObject = Mapping[str, Any]  # Any: a publisher's JSON, before it is checked

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the CloudEvent around a call says, used where the call itself is silent."""

    message_id: str
    call_type: str
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class IdentifyCall:
    """Identifiers that belong together, traits, and what the person chose."""

    identifiers: tuple[Identifier, ...]
    traits: OpenMap
    happened_at: datetime
    message_id: str
    choices: Mapping[str, bool] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class SignalCall:
    """A signal, the identifiers that it came with, and what the person chose."""

    identifiers: tuple[Identifier, ...]
    signal: Signal
    choices: Mapping[str, bool] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsentCall:
    """An act of consent that another system recorded; only imports bring them."""

    identifiers: tuple[Identifier, ...]
    purpose: str
    state: ConsentState
    happened_at: datetime
    message_id: str
    details: Mapping[str, Any] = field(default_factory=dict)  # Any: fields of `RecordConsent`
    choices: Mapping[str, bool] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


PublishedCall = IdentifyCall | SignalCall
DecodedCall = PublishedCall | ConsentCall


def decode_call(
    call: JsonObject, around: Surroundings, *, normaliser: IdentifierNormaliser
) -> PublishedCall:
    """Decode one call, or raise `Invalid` with the reason why it cannot be used."""
    kind = call.get("type")
    decoder = _DECODERS.get(kind if isinstance(kind, str) else around.call_type)
    if decoder is None or not isinstance(kind, str | None):
        raise Invalid("UNKNOWN_CALL", "the type of the call is none of the Segment spec's")
    check_json(call)
    try:
        return decoder(Given(call, around, normaliser))
    except ValidationError:
        raise Invalid("INVALID_PROPERTIES", "the call does not make a valid signal") from None


def parse_time(value: object) -> datetime:
    """Read an RFC 3339 time as UTC, or raise `Invalid` / INVALID_TIMESTAMP."""
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise Invalid("INVALID_TIMESTAMP", "a time is not in the form of RFC 3339")


def check_message_id(value: object) -> str:
    """Accept a message id, or raise `Invalid` / INVALID_MESSAGE_ID."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MESSAGE_ID_CHARACTERS_MAX
        or REPLACEMENT_CHARACTER in value
        or has_unprintable(value)
    ):
        raise Invalid("INVALID_MESSAGE_ID", "a message id is empty, too long or unprintable")
    return value


@dataclass(frozen=True, slots=True)
class Given:
    """A call that is being decoded; identifiers that name nobody gather in `left_out`."""

    call: JsonObject
    around: Surroundings
    normaliser: IdentifierNormaliser
    left_out: list[LeftOut] = field(default_factory=list)

    def identifier(self, namespace: str, raw: object) -> list[Identifier]:
        """Normalise a value; whole numbers are read as their digits, as some publishers send."""
        if isinstance(raw, int) and not isinstance(raw, bool):
            raw = str(raw)
        if not isinstance(raw, str):
            raise Invalid("INVALID_IDENTIFIER", f"an identifier of {namespace} is not a text")
        return self.unless_blocked(lambda: self.normaliser.normalise(namespace, raw))

    def unless_blocked(self, make: Callable[[], Identifier]) -> list[Identifier]:
        """Give what is made, or nothing, and note that it was left out."""
        try:
            return [make()]
        except Blocked as blocked:
            self.left_out.append(blocked.left_out)
            return []

    def distinct(self, identifiers: list[Identifier]) -> tuple[Identifier, ...]:
        """Give each identifier once, the strongest first; there must be one."""
        if not identifiers and self.left_out:
            raise Invalid("IDENTIFIER_BLOCKED", "the call names nobody: its values are blocked")
        if not identifiers:
            raise Invalid("MISSING_IDENTIFIER", "the call names nobody")
        by_key = {identifier.key: identifier for identifier in identifiers}
        return tuple(sorted(by_key.values(), key=self.normaliser.rules.strength))


def _decode_identify(given: Given) -> IdentifyCall:
    traits = open_map(given.call, "traits", "INVALID_TRAITS")
    found = [*named_identifiers(given), *_from_traits(given, traits), *_composed(given, traits)]
    return _identify(given, identifiers=found, traits=traits)


def _decode_alias(given: Given) -> IdentifyCall:
    call = given.call
    if call.get("previousId") is None or call.get("userId") is None:
        raise Invalid("MISSING_IDENTIFIER", "an alias names a previousId and a userId")
    found = [*named_identifiers(given), *given.identifier("anonymous_id", call["previousId"])]
    return _identify(given, identifiers=found, traits={})


def _identify(given: Given, *, identifiers: list[Identifier], traits: OpenMap) -> IdentifyCall:
    return IdentifyCall(
        identifiers=given.distinct(identifiers),
        traits=traits,
        happened_at=happened_at_of(given),
        message_id=message_id_of(given),
        choices=category_preferences(open_map(given.call, "context", "INVALID_CONTEXT")),
        left_out=tuple(given.left_out),
    )


def _decode_track(given: Given) -> SignalCall:
    name = _event_name(given.call.get("event"))
    return _signal(given, kind="track", name=name)


def _decode_page(given: Given) -> SignalCall:
    return _signal(given, kind="page", name=_viewed(given.call, "Page"))


def _decode_screen(given: Given) -> SignalCall:
    return _signal(given, kind="screen", name=_viewed(given.call, "Screen"))


def _decode_group(given: Given) -> SignalCall:
    group_id = given.call.get("groupId")
    if not isinstance(group_id, str) or not group_id.strip():
        raise Invalid("MISSING_GROUP_ID", "a group call names a groupId")
    traits = open_map(given.call, "traits", "INVALID_TRAITS")
    properties: OpenMap = {"groupId": group_id, "traits": traits}
    return _signal(given, kind="group", name="Group", properties=properties)


_Decoder = Callable[[Given], PublishedCall]
_DECODERS: Mapping[str, _Decoder] = {
    "identify": _decode_identify,
    "track": _decode_track,
    "page": _decode_page,
    "screen": _decode_screen,
    "group": _decode_group,
    "alias": _decode_alias,
}


def _signal(
    given: Given,
    *,
    kind: Literal["track", "page", "screen", "group"],
    name: str,
    properties: OpenMap | None = None,
) -> SignalCall:
    identifiers = given.distinct(named_identifiers(given))
    if properties is None:
        properties = open_map(given.call, "properties", "INVALID_PROPERTIES")
    signal = Signal(
        message_id=message_id_of(given),
        kind=kind,
        name=name,
        happened_at=happened_at_of(given),
        properties=properties,
        context=open_map(given.call, "context", "INVALID_CONTEXT"),
    )
    return SignalCall(
        identifiers=identifiers,
        signal=signal,
        choices=category_preferences(signal.context),
        left_out=tuple(given.left_out),
    )


def _viewed(call: JsonObject, thing: str) -> str:
    """Name a page or screen as Segment's destinations do."""
    name = call.get("name")
    if name is None:
        name = open_map(call, "properties", "INVALID_PROPERTIES").get("name")
    if name is None or name == "":
        return f"Loaded a {thing}"
    return _event_name(f"Viewed {_event_name(name)} {thing}")


def _event_name(value: object) -> str:
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        raise Invalid("MISSING_EVENT_NAME", "a track call names its event")
    if not isinstance(value, str) or len(value) > NAME_CHARACTERS_MAX or has_unprintable(value):
        raise Invalid("INVALID_EVENT_NAME", "the name of an event is too long or unprintable")
    return value


def open_map(call: JsonObject, field: str, reason: str) -> OpenMap:
    """Read a field that is an object, or absent; raises `Invalid` with the reason."""
    value = call.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid(reason, f"the field {field} is not an object")
    return value


def message_id_of(given: Given) -> str:
    """Read the id of a call, or take that of what is around it. Raises `Invalid`."""
    value = given.call.get("messageId")
    return given.around.message_id if value is None else check_message_id(value)


def happened_at_of(given: Given) -> datetime:
    """Read when a call happened, or take what is around it. Raises `Invalid`."""
    value = given.call.get("timestamp")
    return given.around.happened_at if value is None else parse_time(value)


def named_identifiers(given: Given) -> list[Identifier]:
    """Find the identifiers that a call names outright: userId, anonymousId, externalIds."""
    found = []
    for name, namespace in (("userId", "user_id"), ("anonymousId", "anonymous_id")):
        raw = given.call.get(name)
        if raw is not None:
            found += given.identifier(namespace, raw)
    external = open_map(given.call, "context", "INVALID_CONTEXT").get("externalIds")
    if external is None:
        return found
    if not isinstance(external, list):
        raise Invalid("INVALID_IDENTIFIER", "context.externalIds is not a list")
    if len(external) > IDENTIFIERS_PER_CALL_MAX:
        raise Invalid("TOO_MANY_IDENTIFIERS", "a call names too many identifiers")
    return [*found, *_from_external(given, external)]


def _from_external(given: Given, entries: Sequence[object]) -> list[Identifier]:
    """Read externalIds; one whose type is no namespace of ours says nothing to us."""
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise Invalid("INVALID_IDENTIFIER", "an entry of context.externalIds is not an object")
        namespace = entry.get("type")
        if isinstance(namespace, str) and given.normaliser.rules.namespace(namespace):
            found += given.identifier(namespace, entry.get("id", ""))
    return found


def _from_traits(given: Given, traits: OpenMap) -> list[Identifier]:
    """Read the traits email and phone as identifiers where they are valid ones."""
    found = []
    for namespace in ("email", "phone"):
        raw = traits.get(namespace)
        if isinstance(raw, str):
            # Still a trait where invalid: what a form was filled in with names nobody.
            with suppress(Invalid):
                found += given.identifier(namespace, raw)
    return found


def _composed(given: Given, traits: OpenMap) -> list[Identifier]:
    """Make the composites of the workspace whose parts are all among the traits."""
    found = []
    for rule in given.normaliser.rules.namespaces:
        parts = {part.name: traits.get(part.name) for part in rule.parts}
        texts = {name: raw for name, raw in parts.items() if isinstance(raw, str)}
        if texts and len(texts) == len(parts):
            with suppress(Invalid):
                found += given.unless_blocked(partial(given.normaliser.compose, rule.name, texts))
    return found
