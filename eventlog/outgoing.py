"""From drafts to messages ready to send, and from an acknowledgement to what is stored.

Versions, previous digests and expectations are computed here, once; sending the same attempt again
sends the very same bytes. Every implementation of the log writes through this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.event import Event, Recorded
from domain.ids import EVENTS_PER_APPEND_MAX, Stream
from eventlog.codec import Encoded, EventMapper, Unencodable
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

SLICE_EVENTS_MAX = 64
"""Events that are encoded in one go, about a millisecond. Between slices the loop writes what
was sent: else one batch would wait for the next to be encoded, and both then for the server. For
the same reason one large attempt is encoded after another, not in turn."""

LOG_DAMAGED = "LOG_DAMAGED"
"""The log is not the one that was written: nothing is stored until somebody has seen to it (R3)."""

LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
"""The log was away until the deadline, and surely nothing was sent: try again."""

CLOCK_DIFFERS = "CLOCK_DIFFERS"
"""The writer's clock is not the server's: nothing was sent, and nothing is until they agree."""

LOG_FULL = "LOG_FULL"
"""The log's disk has no room but its reserve: nothing is stored until it has."""

NOBODYS_FAULT = frozenset({LOG_UNAVAILABLE, LOG_DAMAGED, LOG_FULL, CLOCK_DIFFERS})
"""Refusals of the whole log, which no smaller attempt escapes."""


@dataclass(slots=True)
class Message:
    """An event as it will be stored; `expected` stands on the first message of its subject."""

    subject: str
    values: tuple[str, ...]
    lines: bytes
    body: bytes
    digest: bytes
    expected: int | None
    draft: Draft
    version: int

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
        self._slicing = asyncio.Lock()

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
        mapper = EventMapper(sealing)
        if len(attempt.drafts) <= SLICE_EVENTS_MAX:
            return self._messages(attempt.drafts, attempt.expected, {}, mapper=mapper)
        async with self._slicing:
            return await self._sliced(attempt, mapper)

    async def _sliced(self, attempt: Attempt, mapper: EventMapper) -> list[Message] | Refused:
        messages: list[Message] = []
        pending: dict[Stream, Message] = {}
        for start in range(0, len(attempt.drafts), SLICE_EVENTS_MAX):
            drafts = attempt.drafts[start : start + SLICE_EVENTS_MAX]
            more = self._messages(drafts, attempt.expected, pending, mapper=mapper)
            if isinstance(more, Refused):
                return more
            messages += more
            await asyncio.sleep(0)
        return messages

    def prepare(self, attempt: Attempt) -> list[Message] | Refused:
        """Encode an attempt that is not sealed, or refuse what could never be stored."""
        if not attempt.drafts:
            return Refused(NO_EVENTS)
        if len(attempt.drafts) > EVENTS_PER_APPEND_MAX:
            return Refused(TOO_MANY_EVENTS)
        return self._messages(attempt.drafts, attempt.expected, {}, mapper=self._mapper)

    def _messages(
        self,
        drafts: Sequence[Draft],
        expected: Mapping[Stream, Head],
        pending: dict[Stream, Message],
        *,
        mapper: EventMapper,
    ) -> list[Message] | Refused:
        """Encode drafts after what is `pending` of their streams, and add them to it.

        One step for all, then the next: so a processor finds each step's code at hand.
        """
        try:
            encoded = [mapper.encode(draft) for draft in drafts]
        except Unencodable:
            return Refused(EVENT_NOT_ENCODABLE)
        except RecordErased:
            return Refused(RECORD_ERASED)
        messages = []
        for draft, body in zip(drafts, encoded, strict=True):
            stream = draft.stream
            message = self._message(draft, body, pending.get(stream) or expected[stream])
            pending[stream] = message
            messages.append(message)
        return messages

    def _message(self, draft: Draft, encoded: Encoded, before: Message | Head) -> Message:
        """Write a message after the one before it in its attempt, else after a head."""
        topic, body, key_id = encoded
        version = before.version + 1
        subject = self._subjects.subject_of(draft.stream)
        values = header_values(
            Envelope(
                draft.event_id,
                topic,
                self._subjects.workspace,
                draft.happened_at,
                draft.recorded_at,
                draft.command_id,
                draft.correlation_id,
                draft.auth_id,
                version,
                before.digest,
                key_id,
                draft.decision_id,
                draft.part,
                draft.parts,
            )
        )
        return Message(
            subject,
            values,
            header_lines(values),
            body,
            digest_of_values(subject, values, body),
            before.revision if isinstance(before, Head) else None,
            draft,
            version,
        )


def stored(messages: list[Message], last_revision: int) -> Stored:
    """Give what an append stored, whose last event got this revision."""
    first = last_revision - len(messages) + 1
    events = []
    heads = {}
    for revision, message in enumerate(messages, start=first):
        events.append(_recorded(message.draft, message.version, revision))
        heads[message.draft.stream] = Head(revision, message.version, message.digest)
    return Stored(tuple(events), heads)


def _recorded(draft: Draft, version: int, revision: int) -> Recorded[Event]:
    return Recorded(
        draft.stream,
        version,
        revision,
        draft.event_id,
        draft.happened_at,
        draft.recorded_at,
        draft.command_id,
        draft.decision_id,
        draft.part,
        draft.parts,
        draft.auth_id,
        draft.body,
    )
