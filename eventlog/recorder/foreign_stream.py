"""Where the events of a foreign application lie, and what they are made of.

An application has a stream for its events and one for each other purpose, such as snapshots. Here
originator ids become subjects, and the library's stored events become messages with Koseki's
envelope and chain (`writer.py` sends them).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from uuid import UUID

import uuid_utils
from eventsourcing.persistence import Notification, StoredEvent

from domain.event import Event
from domain.ids import EVENTS_PER_APPEND_MAX, CommandId, DecisionId, EventId, Stream, StreamKind
from eventlog.codec import EventMapper
from eventlog.envelope import NO_KEY, Envelope, digest_of_values, header_lines, header_values
from eventlog.errors import LogDamaged
from eventlog.outgoing import NO_EVENTS, TOO_MANY_EVENTS, Message, Outgoing
from eventlog.port import EMPTY, Attempt, Draft, Head, Refused
from eventlog.recorder.errors import NotStorable
from eventlog.recorder.history import RawEntry
from eventlog.subjects import Subjects

EVENTS = "events"
"""The purpose of the application's own log; any other has a stream of its own."""

KEY_CHARACTERS_MAX = 255
_PURPOSE = re.compile(r"[a-z][a-z_]{0,31}")
_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in "%.*>")
_NO_BODY = Event()


class ForeignSubjects(Subjects):
    """Translate between originators of an application and subjects."""

    def __init__(self, application: str, purpose: str = EVENTS) -> None:
        if not _PURPOSE.fullmatch(purpose):
            raise ValueError(f"a purpose must match {_PURPOSE.pattern}")
        kind, suffix = ("record", "log") if purpose == EVENTS else (purpose, purpose)
        self.workspace = application
        self.log_name = f"koseki-{application}-{suffix}"
        self._prefix = f"koseki.{application}.{kind}."

    @property
    def filters(self) -> tuple[str, ...]:
        """The subjects that the stream takes in, and no others."""
        return (f"{self._prefix}*",)

    def subject_of(self, stream: Stream) -> str:
        """Give the subject of an originator's events."""
        return self._prefix + stream.key

    def stream_of(self, subject: str) -> Stream:
        """Give the originator whose events lie under a subject."""
        key = subject.removeprefix(self._prefix)
        if key == subject or not key or "." in key:
            raise ValueError("the subject is not one of this application's")
        return Stream(StreamKind.RECORD, key)


class OriginatorIds:
    """Translate between originator ids and the keys that stand in subjects."""

    def __init__(self, *, has_text: bool) -> None:
        self._has_text = has_text

    def stream_of(self, originator_id: UUID | str) -> Stream:
        """Give an originator's stream; `NotStorable` for an id that cannot stand in a subject."""
        return Stream(StreamKind.RECORD, self._key(originator_id))

    def id_of(self, stream: Stream) -> UUID | str:
        """Give the originator whose stream it is."""
        if self._has_text:
            return unquote(stream.key)
        try:
            return UUID(stream.key)
        except ValueError:
            raise LogDamaged("a subject does not end with a UUID") from None

    def _key(self, originator_id: UUID | str) -> str:
        if isinstance(originator_id, UUID):
            return str(originator_id)
        if not self._has_text:
            try:
                return str(UUID(originator_id))
            except ValueError:
                raise NotStorable(
                    "the originator id is no UUID; ORIGINATOR_ID_TYPE=text takes any"
                ) from None
        key = quote(originator_id, safe=_SAFE).replace(".", "%2E")  # `quote` lets dots be
        if not 0 < len(key) <= KEY_CHARACTERS_MAX:
            raise NotStorable(f"an originator id takes 1 to {KEY_CHARACTERS_MAX} characters")
        return key

    def stored_event(self, entry: RawEntry) -> StoredEvent:
        """Give an entry as the library knows it."""
        return StoredEvent(
            originator_id=self.id_of(entry.stream),
            originator_version=entry.version,
            topic=entry.readable_envelope.event_type,
            state=entry.body,
        )

    def notification(self, entry: RawEntry) -> Notification:
        """Give an entry as the library's readers know it."""
        return Notification(
            originator_id=self.id_of(entry.stream),
            originator_version=entry.version,
            topic=entry.readable_envelope.event_type,
            state=entry.body,
            id=entry.revision,
        )


@dataclass(frozen=True, slots=True)
class ForeignAttempt(Attempt):
    """Stored events, each with its stream, that go into the log together or not at all."""

    placed: tuple[tuple[Stream, StoredEvent], ...] = ()
    correlation_id: str = ""


class ForeignOutgoing(Outgoing):
    """Prepare the attempts of an application; versions and topics are its own."""

    def __init__(self, subjects: ForeignSubjects) -> None:
        super().__init__(subjects, EventMapper())
        self._subjects = subjects

    def prepare(self, attempt: Attempt) -> list[Message] | Refused:
        """Write the events as messages, each chained to the one before it."""
        assert isinstance(attempt, ForeignAttempt), "an application's log takes only its own"
        if not attempt.placed:
            return Refused(NO_EVENTS)
        if len(attempt.placed) > EVENTS_PER_APPEND_MAX:
            return Refused(TOO_MANY_EVENTS)
        decision_id, now = _new_id(), datetime.now(UTC)
        pending: dict[Stream, Head] = {}
        messages = []
        for part, (stream, stored) in enumerate(attempt.placed, start=1):
            known = pending.get(stream) or attempt.expected.get(stream, EMPTY)
            envelope = Envelope(
                event_id=EventId(_new_id()),
                event_type=stored.topic,
                workspace=self._subjects.workspace,
                happened_at=now,
                recorded_at=now,
                command_id=CommandId(decision_id),
                correlation_id=attempt.correlation_id or decision_id,
                auth_id=f"application:{self._subjects.workspace}",
                version=stored.originator_version,
                previous=known.digest,
                key_id=NO_KEY,
                decision_id=DecisionId(decision_id),
                part=part,
                parts=len(attempt.placed),
            )
            expected = None if stream in pending else known.revision
            message = self._written(stream, stored.state, envelope, expected=expected)
            pending[stream] = Head(0, envelope.version, message.digest)
            messages.append(message)
        return messages

    def _written(
        self, stream: Stream, state: bytes, envelope: Envelope, *, expected: int | None
    ) -> Message:
        subject, values = self._subjects.subject_of(stream), header_values(envelope)
        draft = Draft(
            stream=stream,
            event_id=envelope.event_id,
            body=_NO_BODY,
            happened_at=envelope.happened_at,
            recorded_at=envelope.recorded_at,
            command_id=envelope.command_id,
            correlation_id=envelope.correlation_id,
            decision_id=envelope.decision_id,
            part=envelope.part,
            parts=envelope.parts,
            auth_id=envelope.auth_id,
        )
        return Message(
            subject=subject,
            values=values,
            lines=header_lines(values),
            body=state,
            digest=digest_of_values(subject, values, state),
            expected=expected,
            draft=draft,
            version=envelope.version,
        )


def _new_id() -> str:
    return str(uuid_utils.uuid7())
