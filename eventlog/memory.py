"""The log in memory: for tests of everything above it, and for replays that must publish nothing.

Events pass the same encoding as on JetStream and are kept as headers and bytes. Faults can be
put in: acknowledgements lost, outcomes unknown, the log away, bytes damaged. One event loop only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from domain.ids import RecordId, Stream, StreamKind
from eventlog.codec import EventMapper
from eventlog.envelope import event_digest
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.incoming import (
    BATCH_COMMIT,
    BATCH_ID,
    Incoming,
    Raw,
    begins_with,
    check_chain,
    check_gapless,
    head_of,
)
from eventlog.keys.key_ring import KeyRing
from eventlog.outgoing import EVENT_TOO_LARGE, LOG_UNAVAILABLE, Message, Outgoing, stored
from eventlog.port import (
    EMPTY,
    STREAMS_PER_READ_MAX,
    Attempt,
    Conflict,
    Entry,
    Head,
    Outcome,
    Refused,
    Shape,
    Stored,
    Unknown,
)
from eventlog.prefix import prefix
from eventlog.subjects import Subjects

BODY_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class _Row:
    subject: str
    headers: Mapping[str, str]
    body: bytes


class MemoryEventLog:
    """Keep one workspace's log in memory."""

    def __init__(self, workspace: str, *, keys: KeyRing | None = None) -> None:
        self._subjects = Subjects(workspace)
        self._keys = keys
        mapper = EventMapper()
        self._outgoing = Outgoing(self._subjects, mapper, keys=keys)
        self._incoming = Incoming(self._subjects, mapper, keys=keys)
        self._rows: list[_Row] = []
        self._revisions: dict[str, list[int]] = {}
        self._grown = asyncio.Condition()
        self._answers: deque[str] = deque()
        self.is_available = True

    @property
    def workspace(self) -> str:
        """The workspace whose log this is."""
        return self._subjects.workspace

    @property
    def keys(self) -> KeyRing | None:
        """The keys that seal what is personal in it; None where bodies are open."""
        return self._keys

    def lose_acknowledgements(self, appends: int) -> None:
        """Let the next appends be stored without an answer, so that reading must settle them."""
        self._answers.extend(["lost"] * appends)

    def answer_unknown(self, appends: int, *, stored: bool) -> None:
        """Let the next appends end as `Unknown`, with their events stored or not."""
        self._answers.extend(["unknown_stored" if stored else "unknown_absent"] * appends)

    def rename_event(self, revision: int, wire_name: str) -> None:
        """Give an event another wire name, such as one of a release to come."""
        row = self._rows[revision - 1]
        self._rows[revision - 1] = replace(row, headers={**row.headers, "ce-type": wire_name})

    def damage_body(self, revision: int, body: bytes) -> None:
        """Put other bytes in the place of an event's body."""
        self._rows[revision - 1] = replace(self._rows[revision - 1], body=body)

    def lose_after(self, revision: int) -> None:
        """Cut the log off behind a revision, as a server does that finds its last block damaged."""
        del self._rows[revision:]
        for subject, revisions in self._revisions.items():
            self._revisions[subject] = [r for r in revisions if r <= revision]

    async def append(
        self,
        attempt: Attempt,
        *,
        timeout_seconds: float,
    ) -> Outcome:
        """Store an attempt and settle its outcome."""
        messages = await self._outgoing.prepare_sealed(attempt, timeout_seconds=timeout_seconds)
        if isinstance(messages, Refused):
            return messages
        if any(len(message.body) > BODY_BYTES_MAX for message in messages):
            return Refused(EVENT_TOO_LARGE)
        answer = self._answers.popleft() if self._answers else "given"
        if not self.is_available:
            return Refused(LOG_UNAVAILABLE)
        if answer == "unknown_absent":
            return Unknown()
        outcome = await self._store(messages)
        if answer == "unknown_stored":
            return Unknown()
        if answer == "lost" and isinstance(outcome, Stored):
            return self._settled(messages)
        return outcome

    async def _store(self, messages: list[Message]) -> Outcome:
        for message in messages:
            if message.expected is not None and message.expected != self._last(message.subject):
                return Conflict()
        async with self._grown:
            for number, message in enumerate(messages, start=1):
                headers = dict(message.headers)
                if len(messages) > 1:
                    headers[BATCH_ID] = "memory"
                if number == len(messages) > 1:
                    headers[BATCH_COMMIT] = "1"
                self._rows.append(_Row(message.subject, headers, message.body))
                self._revisions.setdefault(message.subject, []).append(len(self._rows))
            self._grown.notify_all()
        return stored(messages, len(self._rows))

    def _settled(self, messages: list[Message]) -> Outcome:
        """Find the attempt in the log, as a log whose acknowledgement was lost must."""
        first = messages[0]
        expected = first.expected or 0
        later = [r for r in self._revisions.get(first.subject, []) if r > expected]
        row = self._rows[later[0] - 1] if later else None
        if row and event_digest(row.subject, row.headers, row.body) == first.digest:
            return stored(messages, later[0] + len(messages) - 1)
        return Conflict()

    async def load(self, stream: Stream, *, after: Head = EMPTY) -> list[Entry]:
        """Read a stream after a head that the caller holds, to its end, its chain checked."""
        self._require_available()
        revisions = self._revisions.get(self._subjects.subject_of(stream), [])
        entries = await self._entries(r for r in revisions if r > after.revision)
        check_chain(stream, after, entries)
        return entries

    async def load_many(
        self,
        streams: Mapping[Stream, Head],
        *,
        concurrency: int = 32,  # noqa: ARG002  # the port's; nothing here waits
        recheck: Collection[Stream] = (),
    ) -> dict[Stream, list[Entry]]:
        """Load several streams, each after its head."""
        self._require_available()
        for stream in recheck:
            self._recheck(self._subjects.subject_of(stream), streams[stream])
        await self._load_keys(streams)
        return {stream: await self.load(stream, after=head) for stream, head in streams.items()}

    async def last_entries(self, streams: Iterable[Stream]) -> dict[Stream, Entry]:
        """Read the last event of each stream that has one."""
        self._require_available()
        lasts = {stream: self._last(self._subjects.subject_of(stream)) for stream in streams}
        entries = await self._entries(last for last in lasts.values() if last)
        return {entry.stream: entry for entry in entries}

    async def last_heads(self, streams: Iterable[Stream]) -> dict[Stream, Head]:
        """Read the head of each stream that has one."""
        self._require_available()
        lasts = {stream: self._last(self._subjects.subject_of(stream)) for stream in streams}
        return {stream: head_of(self._raw(last)) for stream, last in lasts.items() if last}

    async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
        """Give the revision of each stream's last event; 0 for an empty stream."""
        self._require_available()
        return [self._last(self._subjects.subject_of(stream)) for stream in streams]

    def read(
        self,
        *,
        after_revision: int = 0,
        through_revision: int | None = None,
        as_of: datetime | None = None,
        streams: Collection[Stream] | None = None,
        batch_events_max: int = 1_000,
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield what lies after a revision, in batches, up to the end or another bound."""
        if streams is None:
            batches = self._read(after_revision, batch_events_max)
        else:
            batches = self._read_streams(streams, after_revision, batch_events_max)
        return prefix(batches, through_revision=through_revision, as_of=as_of)

    async def _read(
        self, after_revision: int, batch_events_max: int
    ) -> AsyncGenerator[list[Entry], None]:
        self._require_available()
        end = len(self._rows)
        while after_revision < end:
            upto = min(after_revision + batch_events_max, end)
            entries = await self._entries(range(after_revision + 1, upto + 1))
            check_gapless(after_revision, entries)
            yield entries
            after_revision = upto

    async def _read_streams(
        self, streams: Collection[Stream], after_revision: int, batch_events_max: int
    ) -> AsyncGenerator[list[Entry], None]:
        self._require_available()
        if len(streams) > STREAMS_PER_READ_MAX:
            raise ValueError(f"one read takes at most {STREAMS_PER_READ_MAX} streams")
        loaded = await self.load_many(dict.fromkeys(streams, EMPTY))
        found = sorted(
            (e for entries in loaded.values() for e in entries if e.revision > after_revision),
            key=lambda entry: entry.revision,
        )
        for start in range(0, len(found), batch_events_max):
            yield found[start : start + batch_events_max]

    async def follow(
        self, *, after_revision: int, batch_events_max: int = 1_000
    ) -> AsyncIterator[list[Entry]]:
        """Yield everything after a revision, in batches, and go on for ever."""
        while True:
            async for entries in self.read(
                after_revision=after_revision, batch_events_max=batch_events_max
            ):
                yield entries
                after_revision = entries[-1].revision
            async with self._grown:
                while len(self._rows) <= after_revision:
                    await self._grown.wait()

    def survey(self) -> AsyncIterator[list[Entry]]:
        """Yield whatever can be read, in order."""
        return self.read()

    async def shape(self) -> Shape:
        """Give the log's shape, and this machine's clock as the server's."""
        self._require_available()
        last = len(self._rows)
        return Shape(1 if last else 0, last, 0, 0, datetime.now(UTC))

    async def gaps(self) -> Sequence[tuple[int, int]]:
        """Give none: nothing is ever taken away."""
        return ()

    async def digest_at(self, revision: int) -> bytes | None:
        """Give the digest of the event at a revision; None where there is none."""
        self._require_available()
        if not 0 < revision <= len(self._rows):
            return None
        row = self._rows[revision - 1]
        return event_digest(row.subject, row.headers, row.body)

    async def close(self) -> None:
        """Let go of the keys; the log lives as long as it is referred to."""
        if self._keys is not None:
            await self._keys.close()

    def _recheck(self, subject: str, head: Head) -> None:
        later = [r for r in self._revisions.get(subject, []) if r >= head.revision]
        if not begins_with(head, [self._raw(r) for r in later]):
            raise LogDamaged(f"a stream ends before revision {head.revision}")

    async def _entries(self, revisions: Iterable[int]) -> list[Entry]:
        return await self._incoming.entries([self._raw(r) for r in revisions])

    def _raw(self, revision: int) -> Raw:
        row = self._rows[revision - 1]
        return Raw(row.subject, revision, headers=row.headers, body=row.body)

    async def _load_keys(self, streams: Iterable[Stream]) -> None:
        if self._keys is not None:
            keys = [RecordId(s.key) for s in streams if s.kind is StreamKind.RECORD]
            await self._keys.load(keys)

    def _last(self, subject: str) -> int:
        revisions = self._revisions.get(subject)
        return revisions[-1] if revisions else 0

    def _require_available(self) -> None:
        if not self.is_available:
            raise LogUnavailable("the log in memory was made unavailable")
