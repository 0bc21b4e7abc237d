"""The one way between events and stored bytes: the `eventsourcing` library's mapper, made ours.

Bodies are JSON with sorted keys; names come from the closed registry, never from class paths. What
`Event.PERSONAL` names passes through a `Sealing` on its way in and out. The envelope and the place
of an event travel beside the body (`envelope.py`), so a `PlacedEvent` carries them to the mapper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import orjson
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from pydantic import ValidationError

from domain.events import Event, Recorded
from domain.ids import Stream, stream_uuid
from eventlog.envelope import NO_KEY, Envelope
from eventlog.registry import Fields, UnknownEvent, upcast, wire_name


class Undecodable(ValueError):
    """A stored body that is no event; the message never holds what was stored."""


class Unencodable(ValueError):
    """An event whose values JSON cannot hold, such as an integer of more than 64 bits."""


@dataclass(frozen=True)
class SealedEvent(StoredEvent):
    """A body ready to be stored, with the id of the key that it is sealed under."""

    key_id: str


@dataclass(frozen=True)
class PlacedEvent(StoredEvent):
    """A body as it was read, with the place and the envelope that it was read with."""

    stream: Stream
    revision: int
    envelope: Envelope


class Sealing(Protocol):
    """Turns the personal fields of a body into what may rest on disk, and back."""

    def seal(self, recorded: Recorded[Event], fields: Fields) -> tuple[Fields, str]:
        """Seal the fields that `Event.PERSONAL` names; give all fields and the key's id."""

    def unseal(self, placed: PlacedEvent, fields: Fields) -> Fields:
        """Undo `seal`; raise `Undecodable` where the key is unknown or gone."""


class Unsealed:
    """Stores every field open."""

    def seal(
        self,
        recorded: Recorded[Event],  # noqa: ARG002  # the protocol's
        fields: Fields,
    ) -> tuple[Fields, str]:
        """Give the fields as they are."""
        return fields, NO_KEY

    def unseal(self, placed: PlacedEvent, fields: Fields) -> Fields:
        """Give the fields as they are, unless they were sealed by another version."""
        if placed.envelope.key_id != NO_KEY:
            raise Undecodable("the body is sealed under a key that is not held")
        return fields


class JsonTranscoder(Transcoder):
    """Canonical JSON: keys sorted, times in RFC 3339, no spaces."""

    def encode(self, obj: object) -> bytes:
        """Write fields as JSON."""
        try:
            return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
        except TypeError:
            raise Unencodable("the event holds a value that JSON cannot hold") from None

    def decode(self, data: bytes) -> object:
        """Read fields from JSON."""
        try:
            fields: object = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise Undecodable("the body is not JSON") from None
        return fields


class EventMapper(Mapper[UUID]):
    """Maps `Recorded` events to stored bodies and back, by the closed registry."""

    def __init__(self, sealing: Sealing | None = None) -> None:
        super().__init__(transcoder=JsonTranscoder())
        self._sealing: Sealing = sealing or Unsealed()

    def to_stored_event(  # type: ignore[override]  # a Recorded names its stream, not an aggregate
        self, domain_event: Recorded[Event]
    ) -> SealedEvent:
        """Encode a body; `UnknownEvent` or `Unencodable` where that cannot be."""
        body = domain_event.body
        topic = wire_name(type(body))
        fields, key_id = self._sealing.seal(domain_event, body.model_dump())
        return SealedEvent(
            originator_id=stream_uuid(domain_event.stream),
            originator_version=domain_event.version,
            topic=topic,
            state=self.transcoder.encode(fields),
            key_id=key_id,
        )

    def to_domain_event(  # type: ignore[override]  # see to_stored_event
        self, stored_event: PlacedEvent
    ) -> Recorded[Event]:
        """Decode what was stored; `Undecodable` where it is no event of ours."""
        envelope = stored_event.envelope
        return Recorded(
            stream=stored_event.stream,
            version=stored_event.originator_version,
            revision=stored_event.revision,
            event_id=envelope.event_id,
            happened_at=envelope.happened_at,
            recorded_at=envelope.recorded_at,
            command_id=envelope.command_id,
            decision_id=envelope.decision_id,
            part=envelope.part,
            parts=envelope.parts,
            auth_id=envelope.auth_id,
            body=self._body(stored_event),
        )

    def _body(self, placed: PlacedEvent) -> Event:
        fields = self.transcoder.decode(placed.state)
        if not isinstance(fields, dict):
            raise Undecodable("the body is not a JSON object")
        try:
            event_class, fields = upcast(placed.topic, self._sealing.unseal(placed, fields))
            return event_class.model_validate(fields)
        except UnknownEvent as error:
            raise Undecodable(str(error)) from None
        except ValidationError as error:
            raise Undecodable(f"{error.error_count()} fields do not fit {placed.topic}") from None
