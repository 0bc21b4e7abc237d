"""Decode imported lines into items: calls of the Segment spec, CloudEvents, and acts of consent.

In place of `cloud_events.decode_message` for `koseki import`. Two things differ. A line says when
it happened: to count it as of now would be wrong, and another thing tomorrow. And what it says of
consent counts as an import (R9): choices of categories as well, which otherwise are a banner's. Of
an act of consent only the day may be known: then its time is a date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.intake.cloud_events import Decoded, Item, Rejection, decode_message
from actors.intake.identifiers import IdentifierNormaliser
from actors.intake.json_values import check_json, parse_json
from actors.intake.port import IntakeMessage
from actors.intake.segment_spec import (
    ConsentCall,
    DecodedCall,
    Given,
    SignalCall,
    Surroundings,
    decode_call,
    message_id_of,
    named_identifiers,
    parse_time,
)
from domain.choices import by_purpose
from domain.consent import ConsentState
from domain.errors import Invalid
from domain.event import ShortText
from domain.ids import Name, OpenMap
from domain.rules import Rules

LINE_ID = "line-id"
"""The header that holds the id of a line which has none of its own."""

FAULT = "line-fault"
"""The header that says why a line is no call at all."""

CONSENT = "consent"
_WHO_AND_WHEN = frozenset({"type", "messageId", "timestamp", "userId", "anonymousId", "context"})
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_STATES = {state.value: state for state in ConsentState if state is not ConsentState.UNKNOWN}


class _Act(BaseModel):
    """What a `consent` line says beside whom it means and when it happened."""

    model_config = ConfigDict(frozen=True)

    purpose: Name
    notice_version: ShortText | None = Field(None, alias="noticeVersion")
    notice_language: ShortText | None = Field(None, alias="noticeLanguage")
    jurisdiction: ShortText | None = None
    method: ShortText | None = None
    evidence: OpenMap = Field(default_factory=dict)


_FIELDS = _WHO_AND_WHEN.union(
    {"state", "validUntil"}, (field.alias or name for name, field in _Act.model_fields.items())
)
"""All that a `consent` line may say: it is our own form, not Segment's, which is open."""


@dataclass(frozen=True, slots=True)
class LineDecoder:
    """Decodes the lines of one import, by the rules as they are."""

    source: str
    normaliser: IdentifierNormaliser
    rules: Callable[[], Rules]

    def __call__(self, message: IntakeMessage) -> list[Item]:
        """Give the items of a line, what it says of consent first; never raises."""
        fault = message.headers.get(FAULT)
        if fault is not None:
            return [Rejection(fault, message.data, {})]
        try:
            return [
                Decoded(call, len(message.data), message.data, {}) for call in self._calls(message)
            ]
        except Invalid as error:
            return [Rejection(error.reason, message.data, {})]

    def _calls(self, message: IntakeMessage) -> Iterator[DecodedCall]:
        line = parse_json(message.data)
        if not isinstance(line, dict):
            raise Invalid("INVALID_DATA", "a line is an object")
        if "specversion" in line:
            found = self._cloud_event(line, message)
        else:
            _require_time(line.get("timestamp"))
            around = Surroundings(message.headers[LINE_ID], "", message.received_at)
            if line.get("type") == CONSENT:
                check_json(line)
                found = _consent(Given(line, around, self.normaliser))
            else:
                found = decode_call(line, around, normaliser=self.normaliser)
        yield from self._chosen(found)
        yield replace(found, choices={})

    def _cloud_event(self, line: Mapping[str, Any], message: IntakeMessage) -> DecodedCall:
        data = line.get("data")
        _require_time(line.get("time") or (data.get("timestamp") if isinstance(data, dict) else 0))
        alone = replace(message, headers={})
        (item,) = decode_message(alone, normaliser=self.normaliser)
        if isinstance(item, Rejection):
            raise Invalid(item.reason, "the CloudEvent cannot be used")
        return item.call

    def _chosen(self, call: DecodedCall) -> Iterator[ConsentCall]:
        """Give the choices of categories that came with a call as acts of their own."""
        source = self.rules().sources.get(self.source)
        categories = source.consent_categories if source else {}
        message_id, happened_at = _place_of(call)
        for purpose, is_yes in sorted(by_purpose(call.choices, categories).items()):
            yield ConsentCall(
                identifiers=call.identifiers,
                purpose=purpose,
                state=ConsentState.GIVEN if is_yes else ConsentState.REFUSED,
                happened_at=happened_at,
                message_id=f"{message_id}/{purpose}",
                left_out=call.left_out,
            )


def _require_time(time: object) -> None:
    if not time:
        raise Invalid("MISSING_TIMESTAMP", "a line says when it happened")


def _consent(given: Given) -> ConsentCall:
    line = given.call
    if not line.keys() <= _FIELDS:
        raise Invalid("UNKNOWN_FIELD", "a field of the act means nothing here")
    state = line.get("state")
    if not isinstance(state, str) or state not in _STATES:
        raise Invalid("INVALID_CONSENT_STATE", "the state is not one that an act brings about")
    try:
        act = _Act.model_validate(line)
    except ValidationError:
        raise Invalid("INVALID_FIELD", "a field of the act is not what it should be") from None
    happened_at, is_day = _time_or_day(line["timestamp"])
    details: dict[str, Any] = {**act.model_dump(exclude={"purpose"}), "is_day_precise": is_day}
    if line.get("validUntil") is not None:
        details["valid_until"] = parse_time(line["validUntil"])
    return ConsentCall(
        identifiers=given.distinct(named_identifiers(given)),
        purpose=act.purpose,
        state=_STATES[state],
        happened_at=happened_at,
        message_id=message_id_of(given),
        details=details,
        left_out=tuple(given.left_out),
    )


def _time_or_day(value: object) -> tuple[datetime, bool]:
    """Read a time, or a date alone, and say whether only the day is known. Raises `Invalid`."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        return parse_time(f"{value}T00:00:00Z"), True
    return parse_time(value), False


def _place_of(call: DecodedCall) -> tuple[str, datetime]:
    """Give the id of a call and when it happened."""
    if isinstance(call, SignalCall):
        return call.signal.message_id, call.signal.happened_at
    return call.message_id, call.happened_at
