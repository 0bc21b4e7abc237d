"""The subjects on which commands reach hosts, and hosts say that they live; core NATS, no stream.

    koseki.<ws>.command.<slot>.<epoch>    a request; its reply is what the host answers
    koseki.<ws>.bulk.<slot>.<epoch>       the same, of what may wait for others
    koseki.<ws>.host.<number>             a heartbeat: <epoch> <losses> <number> <0 or 1>

Nothing here is kept: who gets no reply asks again. An empty reply says that nothing was done.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Literal, NamedTuple

import structlog

from eventlog.connection import Connection, Handler, NotSent, Received, Subscription
from eventlog.errors import LogUnavailable
from eventlog.subjects import Subjects
from eventlog.wire import MessageTooLarge

DEADLINE_HEADER = "koseki-deadline"
"""Milliseconds since 1970 after which nobody waits for the reply."""

REQUESTS_AT_ONCE_MAX = 10_000
LaneName = Literal["command", "bulk"]
Execute = Callable[[bytes], Awaitable[bytes]]
"""Takes a batch in as soon as it has come; `ValueError` says that it cannot be read."""

_EPOCH = re.compile(r"[0-9a-f-]{1,64}")
_HEARTBEAT = re.compile(rf"({_EPOCH.pattern}) ([0-9]{{1,18}}) ([0-9]{{1,18}}) ([01])")
_log = structlog.get_logger(__name__)


class Heartbeat(NamedTuple):
    """What a host says twice a second; a later one is greater.

    `losses` counts the connections that it lost, `number` its heartbeats; `is_asked` says whether
    commands came to it since the last one.
    """

    epoch: str
    losses: int
    number: int
    is_asked: bool = False

    def follows(self, earlier: Heartbeat) -> bool:
        """Whether nothing was lost between the two, on the host's connection or on the way."""
        return self[:3] == (earlier.epoch, earlier.losses, earlier.number + 1)


class NatsLanes:
    """Commands and heartbeats of one workspace on a connection."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        self._connection = connection
        self._prefix = f"koseki.{Subjects(workspace).workspace}"
        self._subscriptions: list[Subscription] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._heartbeats = count(1)

    async def request(
        self, lane: LaneName, slot: int, *, epoch: str, batch: bytes, deadline: datetime
    ) -> bytes:
        """Send a batch and wait for its replies. Raises `LogUnavailable`."""
        left = (deadline - datetime.now(UTC)).total_seconds()
        headers = {DEADLINE_HEADER: str(int(deadline.timestamp() * 1_000))}
        subject = f"{self._prefix}.{lane}.{slot}.{epoch}"
        try:
            answer = await self._connection.request(
                subject, batch, headers=headers, timeout_seconds=max(left, 0.0)
            )
        except MessageTooLarge:
            raise LogUnavailable("the commands are too large for one request") from None
        if not answer.data:
            raise NotSent("the host did not take the request")
        return answer.data

    async def serve(self, epoch: str, execute: Mapping[LaneName, Execute]) -> None:
        """Answer what is sent to an epoch, by its lane; drop unread what is past its deadline."""
        for lane, by in execute.items():
            await self._serve(f"{lane}.*.{_checked(epoch)}", by)

    async def _serve(self, what: str, execute: Execute) -> None:
        def take(message: Received) -> None:
            if _is_expired(message):
                return
            task = asyncio.create_task(self._answer(message, self._reply_to(message, execute)))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        await self._subscribe(what, take)

    async def announce(self, host: int, epoch: str, *, is_asked: bool) -> None:
        """Say that a host is there. Raises `LogUnavailable`."""
        said = f"{epoch} {self._connection.losses} {next(self._heartbeats)} {is_asked:d}"
        await self._connection.publish(f"{self._prefix}.host.{host}", said.encode())

    async def listen(self, heard: Callable[[int, Heartbeat], None]) -> None:
        """Hear of every host that says so. Raises `LogUnavailable`."""

        def take(message: Received) -> None:
            host = message.subject.rpartition(".")[2]
            said = _HEARTBEAT.fullmatch(message.data.decode("ascii", "replace"))
            if host.isdecimal() and said:
                losses, number, is_asked = (int(told) for told in said.groups()[1:])
                heard(int(host), Heartbeat(said[1], losses, number, is_asked=bool(is_asked)))

        await self._subscribe("host.*", take)

    async def close(self) -> None:
        """Serve and hear no more."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _subscribe(self, what: str, take: Handler) -> None:
        subject = f"{self._prefix}.{what}"
        self._subscriptions.append(await self._connection.subscribe(subject, take))

    def _reply_to(self, message: Received, execute: Execute) -> Awaitable[bytes]:
        if len(self._answering) < REQUESTS_AT_ONCE_MAX:
            try:
                return execute(message.data)
            except ValueError as error:  # it cannot be read: of another release, perhaps
                _log.warning("request_not_read", error=type(error).__name__)
        return _nothing_done()

    async def _answer(self, message: Received, reply: Awaitable[bytes]) -> None:
        try:
            await self._connection.publish(message.reply, await reply)
        except (LogUnavailable, ValueError) as error:
            _log.warning("reply_not_sent", error=type(error).__name__)


async def _nothing_done() -> bytes:
    return b""


def _is_expired(message: Received) -> bool:
    deadline = (message.headers or {}).get(DEADLINE_HEADER, "")
    now = datetime.now(UTC).timestamp() * 1_000
    return not deadline.isdecimal() or int(deadline) <= now


def _checked(epoch: str) -> str:
    if not _EPOCH.fullmatch(epoch):
        raise ValueError("an epoch is a UUID")
    return epoch
