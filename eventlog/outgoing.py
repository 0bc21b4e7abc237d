"""From drafts to messages ready to send, and from an acknowledgement to what is stored.

Versions, previous digests and expectations are computed here, once; sending the same attempt again
sends the very same bytes. Every implementation of the log writes through this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.event import Event, Recorded
from domain.ids import EVENTS_PER_APPEND_MAX, Stream
from eventlog.codec import EventMapper, Unencodable
from eventlog.envelope import HEADERS, Envelope, digest_of_values, header_lines, header_values
from eventlog.errors import LogUnavailable
from eventlog.keys.key_ring import KeyRing
from eventlog.port import Attempt, Draft, Head, Refused, Stored
from eventlog.sealing import RecordErased, sealing_to_write
from eventlog.subjects import Subjects

TOO_MANY_EVENTS = "TOO_MANY_EVENTS"
NO_EVENTS = "NO_EVENTS"
EVENT_TOO_LARGE = "EVENT_TOO_LARGE"
EVENT_NOT_ENCODABLE = "EVENT_NOT_ENCODABLE"
RECORD_ERASED = "RECORD_ERASED"
"""Something personal was to be stored for a record whose key is destroyed: it never will be."""

LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
"""The log was away until the deadline, and surely nothing was sent: try again."""


@dataclass(slots=True)
class Message:
    """An event as it will be stored; `expected` stands on the first message of its subject."""

    subject: str
    values: tuple[str, ...]
    lines: bytes
    body: bytes
    digest: bytes
    expected: int | None
    recorded: Recorded[Event]

    @property
    def headers(self) -> dict[str, str]:
        """The envelope by its headers' names; `lines` are the same as they go over the wire."""
        return dict(zip(HEADERS, self.values, strict=True))


class Outgoing:
    """Prepare attempts for one workspace."""

    def __init__(
        self, subjects: Subjects, mapper: EventMapper, *, keys: KeyRing | None = None
    ) -> None:
        self._subjects = subjects
        self._mapper = mapper
        self._keys = keys

    async def prepare_sealed(
        self, attempt: Attempt, *, timeout_seconds: float
    ) -> list[Message] | Refused:
        """Prepare an attempt after the keys that it takes were found or made, where keys are."""
        if self._keys is None or not 0 < len(attempt.drafts) <= EVENTS_PER_APPEND_MAX:
            return self.prepare(attempt)
        try:
            sealing = await sealing_to_write(self._keys, attempt, timeout_seconds=timeout_seconds)
        except LogUnavailable:
            return Refused(LOG_UNAVAILABLE)
        return self._prepared(attempt, EventMapper(sealing))

    def prepare(self, attempt: Attempt) -> list[Message] | Refused:
        """Encode an attempt, or refuse what could never be stored."""
        return self._prepared(attempt, self._mapper)

    def _prepared(self, attempt: Attempt, mapper: EventMapper) -> list[Message] | Refused:
        if not attempt.drafts:
            return Refused(NO_EVENTS)
        if len(attempt.drafts) > EVENTS_PER_APPEND_MAX:
            return Refused(TOO_MANY_EVENTS)
        heads: dict[Stream, Head] = {}
        messages = []
        try:
            for draft in attempt.drafts:
                known = heads.get(draft.stream)
                message = self._message(draft, known, attempt, mapper=mapper)
                heads[draft.stream] = Head(0, message.recorded.version, message.digest)
                messages.append(message)
        except Unencodable:
            return Refused(EVENT_NOT_ENCODABLE)
        except RecordErased:
            return Refused(RECORD_ERASED)
        return messages

    def _message(
        self, draft: Draft, pending: Head | None, attempt: Attempt, *, mapper: EventMapper
    ) -> Message:
        known = pending or attempt.expected[draft.stream]
        recorded = _recorded(draft, known.version + 1)
        topic, body, key_id = mapper.encode(recorded)
        subject = self._subjects.subject_of(draft.stream)
        values = header_values(
            Envelope(
                event_id=draft.event_id,
                event_type=topic,
                workspace=self._subjects.workspace,
                happened_at=draft.happened_at,
                recorded_at=draft.recorded_at,
                command_id=draft.command_id,
                correlation_id=draft.correlation_id,
                auth_id=draft.auth_id,
                version=recorded.version,
                previous=known.digest,
                key_id=key_id,
                decision_id=draft.decision_id,
                part=draft.part,
                parts=draft.parts,
            )
        )
        return Message(
            subject=subject,
            values=values,
            lines=header_lines(values),
            body=body,
            digest=digest_of_values(subject, values, body),
            expected=None if pending else known.revision,
            recorded=recorded,
        )


def stored(messages: list[Message], last_revision: int) -> Stored:
    """Give what an append stored, whose last event got this revision."""
    first = last_revision - len(messages) + 1
    events = []
    heads = {}
    for revision, message in enumerate(messages, start=first):
        event = message.recorded
        # Nobody has seen the event yet, and `dataclasses.replace` would take 4 us for each.
        object.__setattr__(event, "revision", revision)
        events.append(event)
        heads[event.stream] = Head(revision, event.version, message.digest)
    return Stored(tuple(events), heads)


def _recorded(draft: Draft, version: int) -> Recorded[Event]:
    return Recorded(
        stream=draft.stream,
        version=version,
        revision=0,
        event_id=draft.event_id,
        happened_at=draft.happened_at,
        recorded_at=draft.recorded_at,
        command_id=draft.command_id,
        decision_id=draft.decision_id,
        part=draft.part,
        parts=draft.parts,
        auth_id=draft.auth_id,
        body=draft.body,
    )
