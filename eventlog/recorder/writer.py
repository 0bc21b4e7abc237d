"""Writes of a foreign application: versions checked against the heads, then one append (R1, R2).

A log of events wants every version to follow the one before it. A stream of snapshots takes any
version once; each snapshot names the highest version so far in its correlation id, so that a new
one is seen to be new, and the latest found, by a look at the last message alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventsourcing.persistence import StoredEvent

from domain.ids import EVENTS_PER_APPEND_MAX, Stream
from eventlog.appender import Appender
from eventlog.jetstream_api import JetStreamApi
from eventlog.outgoing import EVENT_TOO_LARGE, LOG_UNAVAILABLE
from eventlog.port import EMPTY, Conflict, Head, Refused, Stored, Unknown
from eventlog.recorder.errors import (
    LogAway,
    LogRefuses,
    NotStorable,
    OutcomeUnknown,
    VersionConflict,
    VersionGap,
)
from eventlog.recorder.foreign_stream import (
    ForeignAttempt,
    ForeignOutgoing,
    ForeignSubjects,
    OriginatorIds,
)
from eventlog.recorder.history import History, RawEntry

FIRST_VERSIONS = frozenset({0, 1})
HEADS_AT_ONCE_MAX = 64
_HIGHEST = "highest:"


class Writer:
    """Insert stored events into one stream of an application."""

    def __init__(
        self,
        api: JetStreamApi,
        subjects: ForeignSubjects,
        ids: OriginatorIds,
        *,
        allows_gaps: bool,
    ) -> None:
        self._subjects = subjects
        self._ids = ids
        self._allows_gaps = allows_gaps
        self._history = History(api, subjects)
        self._appender = Appender(api, subjects, ForeignOutgoing(subjects))

    async def insert(self, events: Sequence[StoredEvent], *, timeout_seconds: float) -> list[int]:
        """Store events together or not at all; give their sequences in the stream."""
        if not events:
            return []
        if len(events) > EVENTS_PER_APPEND_MAX:
            raise NotStorable(f"one insert takes at most {EVENTS_PER_APPEND_MAX} events")
        placed = tuple((self._ids.stream_of(event.originator_id), event) for event in events)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while (remaining := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(remaining):
                    attempt = await self._attempt(placed)
            except TimeoutError:
                break
            remaining = max(deadline - loop.time(), 0)
            match await self._appender.append(attempt, timeout_seconds=remaining):
                case Stored() as stored:
                    return [event.revision for event in stored.events]
                case Refused(reason):
                    raise _refusal(reason)
                case Unknown():
                    raise OutcomeUnknown("the log did not say in time whether it took the events")
                case Conflict():
                    continue  # the heads that are read next say whose version it was
        raise LogAway(
            "the heads could not be read, or other writers were faster, until the deadline"
        )

    async def _attempt(self, placed: tuple[tuple[Stream, StoredEvent], ...]) -> ForeignAttempt:
        """Check the versions against the heads as they are now."""
        versions: dict[Stream, list[int]] = {}
        for stream, event in placed:
            versions.setdefault(stream, []).append(event.originator_version)
        heads = await self._heads(versions)
        highest = 0
        for stream, added in versions.items():
            head = heads.get(stream)
            if self._allows_gaps:
                highest = max(highest, await self._check_new(stream, head, added))
            else:
                _check_gapless(head, added)
        return ForeignAttempt(
            drafts=(),
            expected={stream: _head(heads.get(stream)) for stream in versions},
            placed=placed,
            correlation_id=f"{_HIGHEST}{highest}" if self._allows_gaps else "",
        )

    async def _heads(self, streams: dict[Stream, list[int]]) -> dict[Stream, RawEntry]:
        places = asyncio.Semaphore(HEADS_AT_ONCE_MAX)

        async def head(stream: Stream) -> RawEntry | None:
            async with places:
                return await self._history.head(self._subjects.subject_of(stream))

        found = await asyncio.gather(*map(head, streams))
        return {stream: entry for stream, entry in zip(streams, found, strict=True) if entry}

    async def _check_new(self, stream: Stream, head: RawEntry | None, added: list[int]) -> int:
        """Require versions that the stream does not hold; give its highest with them."""
        if min(added) < 0:
            raise VersionGap("a version is 0 or more")
        highest = highest_version(head)
        seen: set[int] = set()
        if head is not None and min(added) <= highest:
            subject = self._subjects.subject_of(stream)
            pages = self._history.of_subject(subject, last_revision=head.revision)
            seen = {entry.version async for entries in pages for entry in entries}
        if len(set(added)) < len(added) or not seen.isdisjoint(added):
            raise VersionConflict("the version is recorded already")
        return max(highest, *added)


def highest_version(head: RawEntry | None) -> int:
    """Read the highest version of a stream with gaps from its last event; -1 when it is empty."""
    if head is None:
        return -1
    envelope = head.readable_envelope
    text = envelope.correlation_id.removeprefix(_HIGHEST)
    return int(text) if text.isdigit() else envelope.version


def _check_gapless(head: RawEntry | None, added: list[int]) -> None:
    last = None if head is None else head.readable_envelope.version
    for version in added:
        if last is None and version not in FIRST_VERSIONS:
            raise VersionGap("the first version is 0 or 1")
        if last is not None and version <= last:
            raise VersionConflict("the version is recorded already")
        if last is not None and version > last + 1:
            raise VersionGap("the version does not follow the last one")
        last = version


def _head(entry: RawEntry | None) -> Head:
    return entry.head if entry else EMPTY


def _refusal(reason: str) -> Exception:
    if reason == LOG_UNAVAILABLE:
        return LogAway("the log was away until the time was up")
    if reason == EVENT_TOO_LARGE:
        return NotStorable("an event is over the server's limit for one message")
    return LogRefuses(f"the log refuses the events: {reason}")
