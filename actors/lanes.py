"""The two lanes: commands and bulk, each by requests to the living incarnation of a host.

Hosts say twice a second that they are there; whoever sends to them keeps a `HostTable` of what it
heard. What is on its way to a host is lost once that is silent, came back under another epoch, or
said something that was not heard, as when a server died between: callers send it again. What is too
large for a request travels by `remote.py`, past the same table. What is right the log decides (R1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Protocol, TypeVar

import structlog

from actors.faults import describe
from actors.host import CustomerHost
from actors.messages import (
    HostLink,
    HostUnavailable,
    decode_commands,
    decode_replies,
    encode_commands,
    encode_replies,
)
from domain.replies import Reply
from eventlog.errors import LogError, LogUnavailable
from eventlog.lanes import Execute, Heartbeat, LaneName

HEARTBEAT_SECONDS = 0.5
SILENT_SECONDS_MAX = 2.0
WATCH_SECONDS = 0.25
REQUEST_BYTES_MAX = 512 * 1024
"""More than this is no request, whatever it is: servers limit their messages."""

T = TypeVar("T")
_log = structlog.get_logger()


class Lanes(Protocol):
    """Subjects of a workspace between those who send commands and the hosts."""

    async def request(
        self, lane: LaneName, slot: int, *, epoch: str, batch: bytes, deadline: datetime
    ) -> bytes:
        """Send a batch and wait for its replies. Raises `LogUnavailable`."""

    async def serve(self, epoch: str, execute: Mapping[LaneName, Execute]) -> None:
        """Answer what is sent to an epoch; drop unread what comes after its deadline."""

    async def announce(self, host: int, epoch: str, *, is_asked: bool) -> None:
        """Say that a host is there, and whether commands come. Raises `LogUnavailable`."""

    async def listen(self, heard: Callable[[int, Heartbeat], None]) -> None:
        """Hear of every host that says so. Raises `LogUnavailable`."""

    async def close(self) -> None:
        """Serve and hear no more."""


@dataclass(slots=True)
class _Living:
    heartbeat: Heartbeat
    heard_at: float
    calls: set[asyncio.Timeout] = field(default_factory=set)


class HostTable:
    """Which hosts live, as far as was heard, and what is on its way to each."""

    def __init__(self, hosts: int, *, now: Callable[[], float] = monotonic) -> None:
        self._hosts = hosts
        self._now = now
        self._begun = now()
        self._living: dict[int, _Living] = {}
        self._watching: asyncio.Task[None] | None = None

    async def start(self, lanes: Lanes) -> None:
        """Begin to listen, and to count out who is silent."""
        await lanes.listen(self.hear)
        self._watching = asyncio.create_task(self._watch(), name="watch-hosts")

    async def close(self) -> None:
        """Count nobody out any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def hear(self, host: int, heartbeat: Heartbeat) -> None:
        """Note that a host lives; of two incarnations the younger counts.

        Where this is not the next heartbeat, calls or replies may be lost with those between.
        """
        if not 0 <= host < self._hosts:
            return
        known = self._living.get(host)
        if known is None or heartbeat > known.heartbeat:
            if known is not None and not heartbeat.follows(known.heartbeat):
                self._lose(host)
            living = self._living.setdefault(host, _Living(heartbeat, 0.0))
            living.heartbeat, living.heard_at = heartbeat, self._now()

    def epoch_of(self, host: int) -> str | None:
        """Give the epoch under which a host lives."""
        living = self._living.get(host)
        return None if living is None else living.heartbeat.epoch

    @property
    def away(self) -> frozenset[int]:
        """The hosts that do not live; none before there was time to hear them."""
        if len(self._living) == self._hosts or self._now() - self._begun < SILENT_SECONDS_MAX:
            return frozenset()
        return frozenset(range(self._hosts)) - self._living.keys()

    async def call(self, host: int, work: Coroutine[None, None, T]) -> T:
        """Do something with a host for as long as it lives. Raises `HostUnavailable`."""
        living = self._living.get(host)
        if living is None:
            return await work
        # A scope that ends when the host is lost: a task for each call would cost more.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                living.calls.add(scope)
                return await work
        except TimeoutError:
            if scope.expired():
                raise HostUnavailable from None
            raise
        finally:
            living.calls.discard(scope)

    def count_out(self) -> None:
        """Count out the hosts that were silent for too long."""
        oldest = self._now() - SILENT_SECONDS_MAX
        for host in [h for h, living in self._living.items() if living.heard_at < oldest]:
            _log.warning("host_silent", host=host)
            self._lose(host)

    def _lose(self, host: int) -> None:
        lost = self._living.pop(host, None)
        if lost is not None:
            for call in lost.calls:
                call.reschedule(0.0)  # which is over

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.count_out()


class RequestLane:
    """Carry batches to the hosts that live, each by a request; a larger one by another link."""

    def __init__(self, lane: LaneName, lanes: Lanes, table: HostTable, *, larger: HostLink) -> None:
        self._lane = lane
        self._lanes = lanes
        self._table = table
        self._larger = larger

    async def execute(self, host: int, batch: bytes, *, slot: int, deadline: datetime) -> bytes:
        """Ask a host. Raises `HostUnavailable`."""
        if len(batch) > REQUEST_BYTES_MAX:
            return await self._larger.execute(host, batch, slot=slot, deadline=deadline)
        epoch = self._table.epoch_of(host)
        if epoch is None:
            raise HostUnavailable
        request = self._lanes.request(self._lane, slot, epoch=epoch, batch=batch, deadline=deadline)
        try:
            return await self._table.call(host, request)
        except LogError as error:
            raise HostUnavailable from error


class PartedLane:
    """Carry bulk by requests, parted until each is small enough: for who has no other link."""

    def __init__(self, lanes: Lanes, table: HostTable) -> None:
        self._lane = RequestLane("bulk", lanes, table, larger=self)

    async def execute(self, host: int, batch: bytes, *, slot: int, deadline: datetime) -> bytes:
        """Ask a host, in parts. Raises `HostUnavailable`."""
        if len(batch) <= REQUEST_BYTES_MAX:
            return await self._lane.execute(host, batch, slot=slot, deadline=deadline)
        commands = decode_commands(batch)
        middle = len(commands) // 2
        if not middle:
            raise HostUnavailable
        replies: list[Reply] = []
        for part in (commands[:middle], commands[middle:]):
            answer = await self.execute(host, encode_commands(part), slot=slot, deadline=deadline)
            replies += decode_replies(answer)
        return encode_replies(replies)


class WatchedLink:
    """Carry batches on another link, for as long as the host that has them lives."""

    def __init__(self, link: HostLink, table: HostTable) -> None:
        self._link = link
        self._table = table

    async def execute(self, host: int, batch: bytes, *, slot: int, deadline: datetime) -> bytes:
        """Call a host. Raises `HostUnavailable`."""
        call = self._link.execute(host, batch, slot=slot, deadline=deadline)
        return await self._table.call(host, call)


class ServingHost:
    """A host with both its lanes; each start of a process is an incarnation with its own epoch.

    `epoch` is a UUIDv7, so that a later one is greater. Hosts hear each other's heartbeats: while
    commands come to one of them, the bulk of all gives way in the log, which is one for all.
    """

    def __init__(self, host: CustomerHost, lanes: Lanes, *, number: int, epoch: str) -> None:
        self._host = host
        self._lanes = lanes
        self._number = number
        self._epoch = epoch
        self._is_asked = False
        self._announcing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the host, then serve commands and say so. Raises `LogError`."""
        await self._host.start()
        execute: dict[LaneName, Execute] = {"command": self._execute, "bulk": self.execute_bulk}
        await self._lanes.serve(self._epoch, execute)
        await self._lanes.listen(self._hear)
        self._announcing = asyncio.create_task(self._announce_for_ever(), name="announce-host")

    async def close(self) -> None:
        """Fall silent and stop."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        await self._lanes.close()
        await self._host.close()

    def execute_bulk(self, batch: bytes) -> Awaitable[bytes]:
        """Execute what came on the lane of bulk."""
        return _encoded(self._host.execute_bulk(decode_commands(batch)))

    def status(self) -> dict[str, Any]:
        """Give the host's counters, and its epoch."""
        return {"epoch": self._epoch, **self._host.status()}

    def _execute(self, batch: bytes) -> Awaitable[bytes]:
        """Execute what came on the lane of commands."""
        self._is_asked = True
        return _encoded(self._host.execute(decode_commands(batch)))

    def _hear(self, host: int, heartbeat: Heartbeat) -> None:
        if heartbeat.is_asked and host != self._number:
            self._host.give_way()

    async def _announce_for_ever(self) -> None:
        while True:
            is_asked, self._is_asked = self._is_asked, False
            try:
                await self._lanes.announce(self._number, self._epoch, is_asked=is_asked)
            except LogUnavailable:
                pass  # Who cannot be heard is counted out; the connection comes back by itself.
            except Exception as error:  # noqa: BLE001  # or it would be silent for good
                _log.error("announcing_failed", **describe(error))
            await asyncio.sleep(HEARTBEAT_SECONDS)


async def _encoded(replies: Awaitable[list[Reply]]) -> bytes:
    return encode_replies(await replies)
