"""Reads of single streams from JetStream: their events, their last events, their leader's heads.

Direct get may be answered by a replica that lags; what must not be old comes from the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from domain.ids import Stream
from eventlog.direct_get import BATCH_BYTES_MAX, direct_get, last_messages
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.incoming import Incoming, Raw, begins_with, check_chain, head_of
from eventlog.jetstream_api import JetStreamApi, Json
from eventlog.leader import LeaderReader
from eventlog.port import Entry, Head
from eventlog.subjects import Subjects

BATCH_EVENTS_MAX = 1_000

LAG_READS_MAX = 20
LAG_PAUSE_SECONDS = 0.05
"""How long a replica is waited for that has not heard yet of an event that was acknowledged."""


class DirectReader:
    """Read streams of one workspace's log."""

    def __init__(self, api: JetStreamApi, subjects: Subjects, incoming: Incoming) -> None:
        self._api = api
        self._subjects = subjects
        self._incoming = incoming
        self._log_name = subjects.log_name
        self._leader = LeaderReader(api, subjects.log_name)

    async def load(self, stream: Stream, after: Head) -> list[Entry]:
        """Read a stream after a head, to its end, its chain checked."""
        entries = await self._incoming.entries(await self._load(stream, after.revision))
        check_chain(stream, after, entries)
        return entries

    async def _load_rechecked(self, stream: Stream, after: Head) -> list[Raw]:
        """Read a stream from its head's own event on; give what comes after that."""
        for _ in range(LAG_READS_MAX):
            messages = await self._load(stream, after.revision - 1)
            if begins_with(after, messages):
                return messages[1:]
            # Nothing from the head on: the replica lags, or the event is gone. The leader knows.
            [last] = await self.leader_revisions([stream])
            if last < after.revision:
                raise LogDamaged(f"a {stream.kind} stream ends before revision {after.revision}")
            await asyncio.sleep(LAG_PAUSE_SECONDS)
        raise LogUnavailable("a replica lags behind what is known of a stream")

    async def _load(self, stream: Stream, revision: int) -> list[Raw]:
        """Read what a stream holds after a revision."""
        subject = self._subjects.subject_of(stream)
        messages: list[Raw] = []
        pending = 1
        while pending:
            found, pending = await direct_get(
                self._api.connection,
                self._log_name,
                {
                    "seq": revision + 1,
                    "next_by_subj": subject,
                    "batch": BATCH_EVENTS_MAX,
                    "max_bytes": BATCH_BYTES_MAX,
                },
            )
            messages.extend(found)
            if pending:
                revision = found[-1].revision
        return messages

    async def load_many(
        self, streams: Mapping[Stream, Head], *, concurrency: int, recheck: Collection[Stream] = ()
    ) -> dict[Stream, list[Entry]]:
        """Load several streams, so many at once; their keys are asked for together."""
        places = asyncio.Semaphore(concurrency)

        async def load(stream: Stream, after: Head) -> list[Raw]:
            async with places:
                if stream in recheck:
                    return await self._load_rechecked(stream, after)
                return await self._load(stream, after.revision)

        found = await asyncio.gather(*(load(stream, head) for stream, head in streams.items()))
        entries = iter(await self._incoming.entries([raw for raws in found for raw in raws]))
        loaded = {}
        for (stream, after), raws in zip(streams.items(), found, strict=True):
            loaded[stream] = list(islice(entries, len(raws)))
            check_chain(stream, after, loaded[stream])
        return loaded

    async def last_entries(self, streams: Iterable[Stream]) -> dict[Stream, Entry]:
        """Read the last event of each stream that has one."""
        messages = await self._last_messages(streams)
        return {entry.stream: entry for entry in await self._incoming.entries(messages)}

    async def last_heads(self, streams: Iterable[Stream]) -> dict[Stream, Head]:
        """Read the head of each stream that has one."""
        messages = await self._last_messages(streams)
        return {self._subjects.stream_of(message.subject): head_of(message) for message in messages}

    async def _last_messages(self, streams: Iterable[Stream]) -> list[Raw]:
        subjects = [self._subjects.subject_of(stream) for stream in dict.fromkeys(streams)]
        return await last_messages(self._api.connection, self._log_name, subjects)

    async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
        """Ask the leader for the revision of each stream's last event; 0 for an empty stream."""
        return await self._leader.revisions([self._subjects.subject_of(s) for s in streams])

    async def leader_info(self, details: Mapping[str, Any] | None = None) -> Json:
        """Give what the leader says of the stream. Raises `LogUnavailable`."""
        return await self._leader.info(details)
