"""Newest messages as the stream's leader knows them, from a leader that leads still.

A leader that was paused, or cut off, and replaced believes for a moment after that it leads, and
answers with old heads (seen with three servers, `SIGSTOP`). So what it said counts only if the same
leader then tells that it hears from enough replicas for none to have been elected meanwhile. NATS
has no read by quorum; a cut between some of the servers only can still deceive for a heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog

from eventlog.asking_again import until_answered
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi, Json, StoredMessage

REQUESTS_MAX = 256
"""How many heads are asked for at once."""

HEARD_SECONDS_MAX = 2.5
"""Leaders are heard every second; replicas elect another after four seconds of silence."""

ASK_SECONDS_MAX = 5.0
PAUSE_SECONDS = 0.05

_logger = structlog.get_logger(__name__)
_Answer = TypeVar("_Answer")


class _Leadership(NamedTuple):
    """Who leads, as the server that we are connected to lets us know."""

    server: str
    leader: str
    is_sure: bool


class LeaderReader:
    """Read from the leader of one stream."""

    def __init__(self, api: JetStreamApi, stream_name: str) -> None:
        self._api = api
        self._stream_name = stream_name
        self._places = asyncio.Semaphore(REQUESTS_MAX)
        self._is_replicated: bool | None = None
        self._known: _Leadership | None = None

    async def revisions(self, subjects: Sequence[str]) -> list[int]:
        """Give the last revision on each subject, 0 where there is none; as `newest`."""
        return [message.revision if message else 0 for message in await self.newest(subjects)]

    async def newest(self, subjects: Sequence[str]) -> list[StoredMessage | None]:
        """Give the last message on each subject, which may be a wildcard.

        None is older than what was acknowledged before the call. Raises `LogUnavailable`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ASK_SECONDS_MAX
        while True:
            before = await self._before(deadline)
            reads = (self._newest(subject, deadline) for subject in subjects)
            messages = list(await asyncio.gather(*reads))
            if not self._is_replicated:
                return messages
            after, _ = await self._ask(deadline)
            if after.is_sure and after == before:
                return messages
            _logger.info("leader_not_sure", stream=self._stream_name, leader=after.leader)
            if loop.time() > deadline:
                raise LogUnavailable(f"no server is sure that it leads {self._stream_name}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def info(self, details: Mapping[str, Any] | None = None) -> Json:
        """Give what the leader says of the stream: of all that was acknowledged before the call.

        `details` is what is asked for beside the usual. Raises `LogUnavailable`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ASK_SECONDS_MAX
        while True:
            before, info = await self._ask(deadline, details)
            if not self._is_replicated:
                return info
            after, _ = await self._ask(deadline)
            if after.is_sure and after == before._replace(is_sure=True):
                return info
            if loop.time() > deadline:
                raise LogUnavailable(f"no server is sure that it leads {self._stream_name}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _before(self, deadline: float) -> _Leadership | None:
        """Give what is known; ask, where nothing is or the connection is to another server."""
        known = self._known
        if known is None or known.server != self._api.connection.server_name:
            known, _ = await self._ask(deadline)
        return known

    async def _newest(self, subject: str, deadline: float) -> StoredMessage | None:
        async def ask(timeout_seconds: float) -> StoredMessage | None:
            query = {"last_by_subj": subject}
            return await self._api.message(
                self._stream_name, query, timeout_seconds=timeout_seconds
            )

        async with self._places:
            return await self._until(ask, deadline)

    async def _until(self, ask: Callable[[float], Awaitable[_Answer]], deadline: float) -> _Answer:
        remaining = max(deadline - asyncio.get_running_loop().time(), 0)
        return await until_answered(self._api.connection, ask, timeout_seconds=remaining)

    async def _ask(
        self, deadline: float, details: Mapping[str, Any] | None = None
    ) -> tuple[_Leadership, Json]:
        async def ask(timeout_seconds: float) -> tuple[_Leadership, Json]:
            return await self._ask_once(details, timeout_seconds)

        return await self._until(ask, deadline)

    async def _ask_once(
        self, details: Mapping[str, Any] | None, timeout_seconds: float
    ) -> tuple[_Leadership, Json]:
        server = self._api.connection.server_name
        info = await self._api.call(
            f"STREAM.INFO.{self._stream_name}", details, timeout_seconds=timeout_seconds
        )
        replicas = int(info["config"].get("num_replicas", 1))
        self._is_replicated = replicas > 1
        cluster = info.get("cluster") or {}
        heard = [
            replica
            for replica in cluster.get("replicas") or ()
            if 0 < replica.get("active", 0) < HEARD_SECONDS_MAX * 1_000_000_000
        ]
        is_sure = len(heard) + 1 > replicas // 2
        self._known = _Leadership(server, cluster.get("leader", ""), is_sure)
        return self._known, info
