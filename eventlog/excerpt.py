"""Reads of some streams of the log together, in the log's order, by one filtered consumer.

The server leaves out all other events, so gaps between revisions say nothing here: each stream's
own versions and digests show that nothing is missing between, and its leader that nothing is at the
end, since the replica that delivers may lag.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress

from domain.ids import Stream
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.incoming import Incoming, Raw, check_chain
from eventlog.jetstream_api import JetStreamApi
from eventlog.port import EMPTY, STREAMS_PER_READ_MAX, Entry, Head
from eventlog.pull_consumer import Delivery, PullConsumer
from eventlog.subjects import Subjects

PATIENCE_SECONDS = 10.0
"""How long a read goes on without an event while there should be one."""

PAUSE_SECONDS = 0.1
LEADER_REQUESTS_MAX = 64


class Excerpt:
    """Read some streams of one workspace's log, once."""

    def __init__(
        self,
        api: JetStreamApi,
        subjects: Subjects,
        incoming: Incoming,
        *,
        streams: Collection[Stream],
        after_revision: int,
    ) -> None:
        if len(streams) > STREAMS_PER_READ_MAX:
            raise ValueError(f"one read takes at most {STREAMS_PER_READ_MAX} streams")
        self._api = api
        self._log_name = subjects.log_name
        self._incoming = incoming
        self._subjects = {stream: subjects.subject_of(stream) for stream in streams}
        self._seen = self._begun_after = after_revision
        self._heads: dict[Stream, Head] = {}

    async def read(self, *, batch_events_max: int) -> AsyncGenerator[list[Entry], None]:
        """Yield the events of the streams after the revision, up to the end as of the call."""
        info = await self._api.call(f"STREAM.INFO.{self._log_name}")
        end = int(info["state"]["last_seq"])
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + PATIENCE_SECONDS
        is_more = bool(self._subjects) and self._seen < end
        while is_more:
            consumer = PullConsumer(
                self._api,
                self._log_name,
                events_max=batch_events_max,
                subjects=list(self._subjects.values()),
            )
            try:
                pending = await consumer.create(self._seen + 1)
                while pending and (found := await consumer.receive()):
                    if entries := await self._decode([d for d in found if d.revision <= end]):
                        yield entries
                        patient_until = loop.time() + PATIENCE_SECONDS
                    self._seen = found[-1].revision
                    pending = found[-1].pending if self._seen < end else 0
                is_more = await self._is_more(end, patient_until)
            except LogUnavailable:
                if loop.time() > patient_until:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
            finally:
                with suppress(LogUnavailable):  # the server drops it by itself after a while
                    await consumer.close()

    async def _is_more(self, end: int, patient_until: float) -> bool:
        """Ask the leader whether any stream goes on before the end."""
        if self._seen >= end:
            return False
        places = asyncio.Semaphore(LEADER_REQUESTS_MAX)

        async def goes_on(subject: str) -> bool:
            async with places:
                query = {"next_by_subj": subject, "seq": self._seen + 1}
                found = await self._api.message(self._log_name, query)
                return found is not None and found.revision <= end

        if not any(await asyncio.gather(*map(goes_on, self._subjects.values()))):
            return False
        if asyncio.get_running_loop().time() > patient_until:
            raise LogUnavailable("the log does not deliver what its leader holds")
        return True

    async def _decode(self, found: Sequence[Delivery]) -> list[Entry]:
        if not found:
            return []
        entries = await self._incoming.entries(
            [
                Raw(d.message.subject, d.revision, d.message.headers or {}, d.message.data)
                for d in found
            ]
        )
        for entry in entries:
            if entry.revision <= self._seen:
                raise LogDamaged(f"revision {entry.revision} came after {self._seen}")
            # A read that begins in the middle takes each stream's first event as it finds it.
            first = EMPTY if self._begun_after == 0 else None
            head = self._heads.get(entry.stream, first)
            if head is not None:
                check_chain(entry.stream, head, [entry])
            self._heads[entry.stream] = entry.head
        return entries
