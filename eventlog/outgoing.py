"""From drafts to messages ready to send, and from an acknowledgement to what is stored.

Versions, previous digests and expectations are computed here, once; sending the same attempt again
sends the very same bytes. Every implementation of the log writes through this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from domain.events import Event, Recorded
from domain.ids import EVENTS_PER_APPEND_MAX, Stream
from eventlog.codec import EventMapper, Unencodable
from eventlog.envelope import Envelope, build_headers, event_digest
from eventlog.port import Attempt, Draft, Head, Refused, Stored
from eventlog.subjects import Subjects

TOO_MANY_EVENTS = "TOO_MANY_EVENTS"
NO_EVENTS = "NO_EVENTS"
EVENT_TOO_LARGE = "EVENT_TOO_LARGE"
EVENT_NOT_ENCODABLE = "EVENT_NOT_ENCODABLE"
LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
"""The log was away until the deadline, and surely nothing was sent: try again."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it will be stored; `expected` stands on the first message of its subject."""

    subject: str
    headers: dict[str, str]
    body: bytes
    digest: bytes
    expected: int | None
    recorded: Recorded[Event]


class Outgoing:
    """Prepare attempts for one workspace."""

    def __init__(self, subjects: Subjects, mapper: EventMapper) -> None:
        self._subjects = subjects
        self._mapper = mapper

    def prepare(self, attempt: Attempt) -> list[Message] | Refused:
        """Encode an attempt, or refuse what could never be stored."""
        if not attempt.drafts:
            return Refused(NO_EVENTS)
        if len(attempt.drafts) > EVENTS_PER_APPEND_MAX:
            return Refused(TOO_MANY_EVENTS)
        heads: dict[Stream, Head] = {}
        messages = []
        try:
            for draft in attempt.drafts:
                message = self._message(draft, heads.get(draft.stream), attempt)
                heads[draft.stream] = Head(0, message.recorded.version, message.digest)
                messages.append(message)
        except Unencodable:
            return Refused(EVENT_NOT_ENCODABLE)
        return messages

    def _message(self, draft: Draft, pending: Head | None, attempt: Attempt) -> Message:
        known = pending or attempt.expected[draft.stream]
        recorded = _recorded(draft, known.version + 1)
        stored = self._mapper.to_stored_event(recorded)
        subject = self._subjects.subject_of(draft.stream)
        headers = build_headers(
            Envelope(
                event_id=draft.event_id,
                event_type=stored.topic,
                workspace=self._subjects.workspace,
                happened_at=draft.happened_at,
                recorded_at=draft.recorded_at,
                command_id=draft.command_id,
                correlation_id=draft.correlation_id,
                auth_id=draft.auth_id,
                version=recorded.version,
                previous=known.digest,
                key_id=stored.key_id,
                decision_id=draft.decision_id,
                part=draft.part,
                parts=draft.parts,
            )
        )
        return Message(
            subject=subject,
            headers=headers,
            body=stored.state,
            digest=event_digest(subject, headers, stored.state),
            expected=None if pending else known.revision,
            recorded=recorded,
        )


def stored(messages: list[Message], last_revision: int) -> Stored:
    """Give what an append stored, whose last event got this revision."""
    first = last_revision - len(messages) + 1
    events = []
    heads = {}
    for revision, message in enumerate(messages, start=first):
        event = replace(message.recorded, revision=revision)
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
