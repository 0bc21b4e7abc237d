"""The one way between events and stored bytes: the `eventsourcing` library's mapper, made ours.

Bodies are JSON with sorted keys; names come from the closed registry, never from class paths. What
`Event.PERSONAL` names passes through a `Sealing` on its way in and out. The envelope and the place
of an event travel beside the body (`envelope.py`), so a `PlacedEvent` carries them to the mapper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol
from uuid import UUID

import orjson
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from pydantic import BaseModel, ValidationError

from domain.event import Event, Recorded
from domain.ids import EventId, Stream
from eventlog.envelope import NO_KEY, Envelope
from eventlog.registry import Fields, UnknownEvent, upcast, wire_name


class Undecodable(ValueError):
    """A stored body that is no event; the message never holds what was stored."""


class Unencodable(ValueError):
    """An event whose values JSON cannot hold, such as an integer of more than 64 bits."""


@dataclass(frozen=True)
class PlacedEvent(StoredEvent):
    """A body as it was read, with the place and the envelope that it was read with."""

    stream: Stream
    revision: int
    envelope: Envelope


class Encoded(NamedTuple):
    """A body ready to be stored, under its wire name and the id of its key."""

    topic: str
    state: bytes
    key_id: str


class Unsealing(NamedTuple):
    """The fields of a body after its seal was opened; without the personal ones if erased."""

    fields: Fields
    is_erased: bool


class Encodable(Protocol):
    """An event that is to be stored, or was."""

    @property
    def stream(self) -> Stream:
        """Whose history it belongs to."""

    @property
    def event_id(self) -> EventId:
        """What tells it from every other."""

    @property
    def body(self) -> Event:
        """What it says."""


class Sealing(Protocol):
    """Turns the personal fields of a body into what may rest on disk, and back."""

    def seal(self, event: Encodable, fields: Fields) -> tuple[Fields, str]:
        """Seal the fields that `Event.PERSONAL` names; give all fields and the key's id."""

    def unseal(self, stream: Stream, envelope: Envelope, fields: Fields) -> Unsealing:
        """Undo `seal`; raise `Undecodable` where that cannot be, and nobody destroyed the key."""


class Unsealed:
    """Stores every field open."""

    def seal(
        self,
        event: Encodable,  # noqa: ARG002  # the protocol's
        fields: Fields,
    ) -> tuple[Fields, str]:
        """Give the fields as they are."""
        return fields, NO_KEY

    def unseal(
        self,
        stream: Stream,  # noqa: ARG002  # the protocol's
        envelope: Envelope,
        fields: Fields,
    ) -> Unsealing:
        """Give the fields as they are, unless they were sealed by another reader."""
        if envelope.key_id != NO_KEY:
            raise Undecodable("the body is sealed under a key that is not held")
        return Unsealing(fields, is_erased=False)


def encode_json(fields: object) -> bytes:
    """Write canonical JSON: keys sorted, times in RFC 3339, no spaces."""
    try:
        return orjson.dumps(
            fields, default=_fields_of, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z
        )
    except TypeError:
        raise Unencodable("the event holds a value that JSON cannot hold") from None


def _fields_of(value: object) -> Fields:
    """Give the fields of a model; `TypeError` for anything else that JSON has no form for."""
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError


class JsonTranscoder(Transcoder):
    """Bodies are canonical JSON."""

    def encode(self, obj: object) -> bytes:
        """Write fields as JSON."""
        return encode_json(obj)

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

    def to_stored_event(
        self,
        domain_event: Any,  # noqa: ARG002, ANN401  # Any: the library's
    ) -> NoReturn:
        """Refuse: a stored event of ours needs its envelope too, which `outgoing.py` writes."""
        raise TypeError("an event is stored through an attempt, not by itself")

    def encode(self, event: Encodable) -> Encoded:
        """Encode a body; `UnknownEvent` or `Unencodable` where that cannot be."""
        body = event.body
        # The fields as they are: to dump the models in them first takes longer than to write them.
        fields, key_id = self._sealing.seal(event, dict(body.__dict__))
        return Encoded(wire_name(type(body)), encode_json(fields), key_id)

    def to_domain_event(  # type: ignore[override]  # a Recorded names its stream, not an aggregate
        self, stored_event: PlacedEvent
    ) -> Recorded[Event]:
        """Decode what was stored; `Undecodable` where it is no event of ours."""
        placed = stored_event
        said = placed.envelope._replace(event_type=placed.topic, version=placed.originator_version)
        return self.decode(placed.stream, placed.revision, envelope=said, state=placed.state)

    def decode(
        self, stream: Stream, revision: int, *, envelope: Envelope, state: bytes
    ) -> Recorded[Event]:
        """Decode a body that was read at a place; `Undecodable` where it is no event of ours."""
        body, is_erased = self._body(stream, envelope, state)
        return Recorded(
            stream=stream,
            version=envelope.version,
            revision=revision,
            event_id=envelope.event_id,
            happened_at=envelope.happened_at,
            recorded_at=envelope.recorded_at,
            command_id=envelope.command_id,
            decision_id=envelope.decision_id,
            part=envelope.part,
            parts=envelope.parts,
            auth_id=envelope.auth_id,
            body=body,
            is_erased=is_erased,
        )

    def _body(self, stream: Stream, envelope: Envelope, state: bytes) -> tuple[Event, bool]:
        fields = self.transcoder.decode(state)
        if not isinstance(fields, dict):
            raise Undecodable("the body is not a JSON object")
        try:
            opened, is_erased = self._sealing.unseal(stream, envelope, fields)
            event_class, fields = upcast(envelope.event_type, opened)
            if is_erased:
                fields = {**event_class.PERSONAL, **fields}
            return event_class.model_validate(fields), is_erased
        except UnknownEvent as error:
            raise Undecodable(str(error)) from None
        except ValidationError as error:
            said = f"{error.error_count()} fields do not fit {envelope.event_type}"
            raise Undecodable(said) from None
