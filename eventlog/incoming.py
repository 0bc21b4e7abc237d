"""From stored messages to entries, and the checks of what a reader is given.

Every implementation of the log reads through this module. What cannot be decoded becomes an entry
with a `fault`; what breaks a chain, a version or the order raises `LogDamaged`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from domain.event import Event, Recorded
from domain.ids import DecisionId, RecordId, Stream, StreamKind, record_stream
from eventlog.codec import EventMapper, Undecodable
from eventlog.envelope import Envelope, EnvelopeUnreadable, event_digest, parse_headers
from eventlog.errors import LogDamaged
from eventlog.keys.key_ring import KeyRing
from eventlog.port import ZERO_DIGEST, Entry, Head, Remains
from eventlog.sealing import Keyless, RecordSealing, is_sealed
from eventlog.subjects import Subjects

BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"
APPEND_END = "koseki-append-end"
"""Ends an append in the middle of a batch: a restore joins appends, and keeps their bounds."""

KEY_ID = "koseki-keyid"
CLOSED = "closed: the record lost events"
"""The fault of every event of a record that stays closed though its log was reopened (R3)."""


class Raw(NamedTuple):
    """A message as it is stored."""

    subject: str
    revision: int
    headers: Mapping[str, str]
    body: bytes


class Incoming:
    """Read stored messages of one workspace."""

    def __init__(
        self,
        subjects: Subjects,
        mapper: EventMapper,
        *,
        keys: KeyRing | None = None,
        closed: Collection[RecordId] = (),
    ) -> None:
        self._subjects = subjects
        self._mapper = mapper
        self._keyless = EventMapper(Keyless())
        self._keys = keys
        self._closed = frozenset(map(record_stream, closed))

    async def entries(self, messages: Sequence[Raw]) -> list[Entry]:
        """Read messages after the keys of all their records were loaded at once, where keys are.

        Raises `LogUnavailable` where the key store cannot be asked.
        """
        mapper = self._mapper
        if self._keys is not None:
            records = {
                self._subjects.record_of(message.subject)
                for message in messages
                if is_sealed(message.headers.get(KEY_ID))
            }
            keys = await self._keys.load(r for r in records if r)
            mapper = EventMapper(RecordSealing(keys, ring=self._keys))
        return [
            self.entry(m.subject, m.revision, headers=m.headers, body=m.body)
            if mapper is self._mapper
            else self._read(m, mapper)
            for m in messages
        ]

    def outline(self, message: Raw) -> tuple[Entry, DecisionId | None]:
        """Give a message's place and what its envelope says; its body only if it turns the clock.

        Without a key: whether a sealed body can be read is not known then.
        """
        if self._subjects.is_clock(message.subject):
            entry = self._read(message, self._mapper)
            return entry, entry.event.decision_id if entry.event else None
        subject, revision, headers, body = message
        digest = event_digest(subject, headers, body)
        stream = self._stream_of(message)
        ends = ends_append(headers)
        try:
            said = parse_headers(headers)
        except EnvelopeUnreadable:
            return Entry(None, stream, revision, 0, ZERO_DIGEST, digest, ends), None
        entry = Entry(
            None,
            stream,
            revision,
            said.version,
            said.previous,
            digest,
            ends,
            recorded_at=said.recorded_at,
        )
        return entry, said.decision_id

    def entry(
        self, subject: str, revision: int, *, headers: Mapping[str, str], body: bytes
    ) -> Entry:
        """Read one message that is not sealed; without a readable envelope it has version 0."""
        return self._read(Raw(subject, revision, headers, body), self._mapper)

    def _read(self, message: Raw, mapper: EventMapper) -> Entry:
        subject, revision, headers, body = message
        digest = event_digest(subject, headers, body)
        stream = self._stream_of(message)
        try:
            envelope = parse_headers(headers)
        except EnvelopeUnreadable as error:
            why = f"envelope: {error}"
            return Entry(None, stream, revision, 0, ZERO_DIGEST, digest, ends_append(headers), why)
        event, fault = self._decoded(stream, message, envelope, mapper)
        remains = None
        if event is None and fault != CLOSED:
            bare, _ = self._decoded(stream, message, envelope, self._keyless)
            remains = Remains(envelope.event_type, envelope.parts, bare)
        return Entry(
            event,
            stream,
            revision,
            envelope.version,
            envelope.previous,
            digest,
            ends_append(headers),
            fault,
            envelope.recorded_at,
            remains,
        )

    def _stream_of(self, message: Raw) -> Stream:
        try:
            return self._subjects.stream_of(message.subject)
        except ValueError:
            revision = message.revision
            raise LogDamaged(f"revision {revision} lies on a subject of another kind") from None

    def _decoded(
        self, stream: Stream, message: Raw, envelope: Envelope, mapper: EventMapper
    ) -> tuple[Recorded[Event] | None, str | None]:
        """Decode a body; else say why it cannot be, or may not."""
        if stream in self._closed:
            return None, CLOSED
        try:
            self._subjects.require_id(stream)
            revision, state = message.revision, message.body
            return mapper.decode(stream, revision, envelope=envelope, state=state), None
        except Undecodable as error:
            return None, f"body: {error}"
        except ValueError:
            return None, "subject: the key is not a record's id"


def ends_append(headers: Mapping[str, str]) -> bool:
    """Say by a message's headers whether the next message was stored by another append."""
    return BATCH_ID not in headers or BATCH_COMMIT in headers or APPEND_END in headers


def head_of(message: Raw) -> Head:
    """Give the head that a stream has whose last message this is; version 0 if it is unreadable."""
    try:
        version = parse_headers(message.headers).version
    except EnvelopeUnreadable:
        version = 0
    digest = event_digest(message.subject, message.headers, message.body)
    return Head(message.revision, version, digest)


def begins_with(head: Head, messages: Sequence[Raw]) -> bool:
    """Whether messages begin with a head's own event; `LogDamaged` if another is in its place.

    False where there is none so far, as on a replica that lags.
    """
    if not messages:
        return False
    if head_of(messages[0]) != head:
        raise LogDamaged(f"revision {head.revision} is not what it was when it was last read")
    return True


def check_chain(stream: Stream, after: Head, entries: Sequence[Entry]) -> None:
    """Require that entries continue a head: no version missing, each naming the digest before."""
    head = after
    for entry in entries:
        place = place_of(stream, entry.revision)
        if entry.version != head.version + 1:
            raise LogDamaged(f"{place} has version {entry.version} after {head.version}")
        if entry.previous != head.digest:
            raise LogDamaged(f"{place} does not follow the event before it")
        head = entry.head


def place_of(stream: Stream, revision: int) -> str:
    """Say in words where an event lies; of streams that are not records, only the kind."""
    is_record = stream.kind is StreamKind.RECORD
    whose = f"record {stream.key}" if is_record else f"a {stream.kind} stream"
    return f"revision {revision} of {whose}"


def check_gapless(after_revision: int, entries: Sequence[Entry]) -> None:
    """Require that entries hold every revision after a given one, in order."""
    for expected, entry in enumerate(entries, start=after_revision + 1):
        if entry.revision != expected:
            raise LogDamaged(f"revision {entry.revision} stands where {expected} should")
