"""Reads of single streams from JetStream: their events, their last events, their leader's heads.

Direct get may be answered by a replica that lags; what must not be old comes from the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from domain.ids import Stream
from eventlog.errors import LogUnavailable
from eventlog.incoming import Incoming, Raw, check_chain
from eventlog.jetstream_api import JetStreamApi, Json
from eventlog.leader import LeaderReader
from eventlog.nats_client import Received
from eventlog.port import Entry, Head
from eventlog.subjects import Subjects
from eventlog.wire import Outbound

READ_TIMEOUT_SECONDS = 5.0
BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 8_388_608
SUBJECTS_PER_REQUEST_MAX = 1_000

_END_OF_BATCH = "204"
_NOT_FOUND = "404"


class DirectReader:
    """Read streams of one workspace's log."""

    def __init__(self, api: JetStreamApi, subjects: Subjects, incoming: Incoming) -> None:
        self._api = api
        self._subjects = subjects
        self._incoming = incoming
        self._address = f"$JS.API.DIRECT.GET.{subjects.log_name}"
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
            found, pending = await self._get(
                {
                    "seq": revision + 1,
                    "next_by_subj": subject,
                    "batch": BATCH_EVENTS_MAX,
                    "max_bytes": BATCH_BYTES_MAX,
                }
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
        waiting = [self._subjects.subject_of(stream) for stream in dict.fromkeys(streams)]
        found: dict[Stream, Entry] = {}
        while waiting:
            asked, waiting = (
                waiting[:SUBJECTS_PER_REQUEST_MAX],
                waiting[SUBJECTS_PER_REQUEST_MAX:],
            )
            messages, pending = await self._get(
                {"multi_last": asked, "batch": len(asked), "max_bytes": BATCH_BYTES_MAX}
            )
            entries = await self._incoming.entries(messages)
            found.update((entry.stream, entry) for entry in entries)
            if pending:
                given = {message.subject for message in messages}
                waiting.extend(subject for subject in asked if subject not in given)
        return found

    async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
        """Ask the leader for the revision of each stream's last event; 0 for an empty stream."""
        return await self._leader.revisions([self._subjects.subject_of(s) for s in streams])

    async def leader_info(self, details: Mapping[str, Any] | None = None) -> Json:
        """Give what the leader says of the stream. Raises `LogUnavailable`."""
        return await self._leader.info(details)

    async def _get(self, query: Mapping[str, Any]) -> tuple[list[Raw], int]:
        """Make one direct get; give what it found and how many more there are."""
        *messages, end = await self._api.connection.request_all(
            [Outbound(self._address, {}, orjson.dumps(query))],
            is_last=_ends,
            timeout_seconds=READ_TIMEOUT_SECONDS,
        )
        headers = end.headers or {}
        if headers.get("Status") == _NOT_FOUND:
            return [], 0
        pending = int(headers.get("Nats-Num-Pending", 0))
        if headers.get("Status") != _END_OF_BATCH or (pending and not messages):
            raise LogUnavailable("a direct get ended before its time")
        return [_raw(message) for message in messages], pending


def _raw(message: Received) -> Raw:
    headers = message.headers or {}
    return Raw(
        headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers=headers, body=message.data
    )


def _ends(message: Received) -> bool:
    return not message.data and "Status" in (message.headers or {})
