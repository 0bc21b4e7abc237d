"""Reads of a stream for the recorders: a subject's events, a range of revisions, heads.

What is read is what the leader holds at the time of the call: its answer says where to stop, and a
replica that lags is asked again. Nothing is decoded here: an event's topic and bytes are handed on
as they are, its chain and the order of revisions are checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from eventlog.codec import EventMapper
from eventlog.connection import Received
from eventlog.envelope import Envelope, EnvelopeUnreadable, event_digest, parse_headers
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.incoming import Incoming, ends_append
from eventlog.jetstream_api import STREAM_NOT_FOUND, ApiError, JetStreamApi
from eventlog.port import ZERO_DIGEST, Entry
from eventlog.subjects import Subjects
from eventlog.wire import Outbound

T = TypeVar("T")

PAGE_EVENTS_MAX = 1_000
PAGE_BYTES_MAX = 8_388_608
PAGE_TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS_MIN = 0.005
PAUSE_SECONDS_MAX = 0.25

_NOT_FOUND = "404"
_END_OF_BATCH = "204"


@dataclass(frozen=True, slots=True)
class RawEntry(Entry):
    """An entry as it is stored. Without a readable envelope it cannot be handed on."""

    subject: str = ""
    envelope: Envelope | None = None
    body: bytes = b""

    @property
    def readable_envelope(self) -> Envelope:
        """The envelope, or `LogDamaged`."""
        if self.envelope is None:
            raise LogDamaged(f"revision {self.revision} has no readable envelope")
        return self.envelope


class RawIncoming(Incoming):
    """Read stored messages and leave their bodies alone."""

    def __init__(self, subjects: Subjects) -> None:
        super().__init__(subjects, EventMapper())
        self._subjects = subjects

    def entry(
        self, subject: str, revision: int, *, headers: Mapping[str, str], body: bytes
    ) -> RawEntry:
        """Read one message."""
        try:
            stream = self._subjects.stream_of(subject)
        except ValueError:
            raise LogDamaged(f"revision {revision} lies on a subject of another kind") from None
        try:
            envelope = parse_headers(headers)
        except EnvelopeUnreadable:
            envelope = None
        return RawEntry(
            event=None,
            stream=stream,
            revision=revision,
            version=envelope.version if envelope else 0,
            previous=envelope.previous if envelope else ZERO_DIGEST,
            digest=event_digest(subject, headers, body),
            ends_append=ends_append(headers),
            subject=subject,
            envelope=envelope,
            body=body,
        )


class History:
    """Read one JetStream stream. Everything but `patiently` may raise `LogDamaged`."""

    def __init__(self, api: JetStreamApi, subjects: Subjects) -> None:
        self._api = api
        self._name = subjects.log_name
        self._incoming = RawIncoming(subjects)
        self._direct = f"$JS.API.DIRECT.GET.{subjects.log_name}"

    async def last_revision(self) -> int:
        """Ask the leader where the stream ends; 0 when it is empty."""
        info = await patiently(lambda: self._api.call(f"STREAM.INFO.{self._name}"))
        return int(info["state"]["last_seq"])

    async def head(self, subject: str) -> RawEntry | None:
        """Ask the leader for the last event of a subject."""
        query = {"last_by_subj": subject}
        found = await patiently(lambda: self._api.message(self._name, query))
        if found is None:
            return None
        return self._incoming.entry(
            found.subject, found.revision, headers=found.headers, body=found.body
        )

    async def of_subject(
        self, subject: str, *, last_revision: int
    ) -> AsyncGenerator[list[RawEntry], None]:
        """Yield a subject's events up to a revision of its own, in order, in pages."""
        previous = ZERO_DIGEST
        pages = self._pages(1, last_revision, {"next_by_subj": subject, "batch": PAGE_EVENTS_MAX})
        async with aclosing(pages):
            async for entries in pages:
                for entry in entries:
                    if entry.readable_envelope.previous != previous:
                        raise LogDamaged(
                            f"revision {entry.revision} does not follow the event before it"
                        )
                    previous = entry.digest
                yield entries

    async def of_range(
        self, first: int, last: int, *, page_events_max: int = PAGE_EVENTS_MAX
    ) -> AsyncGenerator[list[RawEntry], None]:
        """Yield every event from a revision to another that exists, in pages."""
        query = {"batch": min(page_events_max, PAGE_EVENTS_MAX, max(last - first + 1, 1))}
        pages = self._pages(first, last, query)
        async with aclosing(pages):
            async for entries in pages:
                for expected, entry in enumerate(entries, start=first):
                    if entry.revision != expected:
                        raise LogDamaged(
                            f"revision {entry.revision} stands where {expected} should"
                        )
                first = entries[-1].revision + 1
                yield entries

    async def subjects(self, pattern: str) -> AsyncGenerator[list[str], None]:
        """Yield the subjects that have events and match, in pages of the server's size."""
        offset = 0
        while True:
            query = {"subjects_filter": pattern, "offset": offset}
            info = await patiently(lambda: self._api.call(f"STREAM.INFO.{self._name}", query))  # noqa: B023  # awaited at once
            found = list(info["state"].get("subjects") or ())
            if not found:
                return
            yield found
            offset += len(found)
            if offset >= int(info.get("total", 0)):
                return

    async def _pages(
        self, first: int, last: int, query: Mapping[str, Any]
    ) -> AsyncGenerator[list[RawEntry], None]:
        pause = PAUSE_SECONDS_MIN
        while first <= last:
            page = {"seq": first, "max_bytes": PAGE_BYTES_MAX, **query}
            found = await patiently(lambda: self._page(page))  # noqa: B023  # awaited at once
            entries = [entry for entry in found if entry.revision <= last]
            if entries:
                yield entries
                first, pause = entries[-1].revision + 1, PAUSE_SECONDS_MIN
            elif found:
                raise LogDamaged(f"revision {last} is not where the leader saw it")
            else:
                await asyncio.sleep(pause)  # the replica that answered has not got it yet
                pause = min(pause * 2, PAUSE_SECONDS_MAX)

    async def _page(self, query: Mapping[str, Any]) -> Sequence[RawEntry]:
        *messages, end = await self._api.connection.request_all(
            [Outbound(self._direct, {}, orjson.dumps(query))],
            is_last=_is_end,
            timeout_seconds=PAGE_TIMEOUT_SECONDS,
        )
        status = (end.headers or {}).get("Status")
        if status not in {_END_OF_BATCH, _NOT_FOUND}:
            raise LogUnavailable("a direct get ended before its time")
        return [self._entry(message) for message in messages]

    def _entry(self, message: Received) -> RawEntry:
        headers = message.headers or {}
        return self._incoming.entry(
            headers["Nats-Subject"],
            int(headers["Nats-Sequence"]),
            headers=headers,
            body=message.data,
        )


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Try again until the log answers; the caller's deadline ends this."""
    pause = PAUSE_SECONDS_MIN
    while True:
        try:
            return await work()
        except ApiError as error:
            if error.code == STREAM_NOT_FOUND:
                raise
        except LogUnavailable:
            pass
        await asyncio.sleep(pause)
        pause = min(pause * 2, PAUSE_SECONDS_MAX)


def _is_end(message: Received) -> bool:
    return not message.data and "Status" in (message.headers or {})
