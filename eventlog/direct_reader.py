"""Reads of single streams from JetStream: their events, their last events, their leader's heads.

Direct get may be answered by a replica that lags; what must not be old comes from the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from domain.ids import Stream
from eventlog.direct_get import BATCH_BYTES_MAX, direct_get, last_messages
from eventlog.incoming import Incoming, Raw, check_chain
from eventlog.jetstream_api import JetStreamApi
from eventlog.leader import LeaderReader
from eventlog.port import Entry, Head
from eventlog.subjects import Subjects

BATCH_EVENTS_MAX = 1_000


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
        entries = await self._incoming.entries(await self._load(stream, after))
        check_chain(stream, after, entries)
        return entries

    async def _load(self, stream: Stream, after: Head) -> list[Raw]:
        subject = self._subjects.subject_of(stream)
        messages: list[Raw] = []
        revision, pending = after.revision, 1
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
        self, streams: Mapping[Stream, Head], concurrency: int
    ) -> dict[Stream, list[Entry]]:
        """Load several streams, so many at once; their keys are asked for together."""
        places = asyncio.Semaphore(concurrency)

        async def load(stream: Stream, after: Head) -> list[Raw]:
            async with places:
                return await self._load(stream, after)

        found = await asyncio.gather(*(load(stream, head) for stream, head in streams.items()))
        entries = iter(await self._incoming.entries([raw for raws in found for raw in raws]))
        loaded = {}
        for (stream, after), raws in zip(streams.items(), found, strict=True):
            loaded[stream] = list(islice(entries, len(raws)))
            check_chain(stream, after, loaded[stream])
        return loaded

    async def last_entries(self, streams: Iterable[Stream]) -> dict[Stream, Entry]:
        """Read the last event of each stream that has one."""
        subjects = [self._subjects.subject_of(stream) for stream in dict.fromkeys(streams)]
        messages = await last_messages(self._api.connection, self._log_name, subjects)
        return {entry.stream: entry for entry in await self._incoming.entries(messages)}

    async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
        """Ask the leader for the revision of each stream's last event; 0 for an empty stream."""
        return await self._leader.revisions([self._subjects.subject_of(s) for s in streams])
