"""The calls to one host: each batch by itself, or gathered into few.

`router.py` sends single commands by the one and bulk by the other. What becomes of a batch is told
for each of its commands; a call that is lost is `HostUnavailable` for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from actors.faults import describe
from actors.messages import (
    COMMANDS_PER_CALL_MAX,
    HostLink,
    HostUnavailable,
    Routed,
    decode_replies,
    encode_commands,
    failed,
)
from domain.errors import Kind
from domain.replies import Reply

COMMANDS_WAITING_MAX = 50_000
CALLS_AT_ONCE_MAX = 256
"""Calls for single commands in flight to one host; others wait for one of them to end."""

BULK_CALLS_AT_ONCE_MAX = 2
"""Calls in bulk in flight to one host. Each costs both ends something, and the fewer are under way
in a host, the sooner it sees to a command."""

CROWD_COMMANDS_MIN = 128
GATHER_SECONDS = 0.1
"""Beside a call in flight another goes out once so many commands wait, or the first for so long."""

CALL_OVERRUN = timedelta(seconds=10)
"""How long after its commands' deadlines a call may still tell what became of them."""

_OVERLOADED = failed(Kind.UNAVAILABLE, "HOST_OVERLOADED", "too many commands are waiting")
_log = structlog.get_logger()


Answer = Reply | HostUnavailable
"""What is known of a command after one try."""


class Channel(Protocol):
    """A way to one host."""

    async def send(self, batch: Sequence[Routed]) -> Sequence[Answer]:
        """Send at most `COMMANDS_PER_CALL_MAX` commands; never raises."""


class DirectChannel:
    """Call the host for each batch at once: whoever sends one waits for it."""

    def __init__(self, link: HostLink, host: int) -> None:
        self._link = link
        self._host = host
        self._room = asyncio.Semaphore(CALLS_AT_ONCE_MAX)
        self._sent = 0

    async def send(self, batch: Sequence[Routed]) -> Sequence[Answer]:
        """Send a batch, once there is room for a call."""
        if self._sent + len(batch) > COMMANDS_WAITING_MAX:
            return [_OVERLOADED] * len(batch)
        self._sent += len(batch)
        try:
            async with self._room:
                return await _call(self._link, self._host, batch)
        finally:
            self._sent -= len(batch)


@dataclass(slots=True)
class _Waiting:
    """Commands that were sent together and are answered together."""

    batch: Sequence[Routed]
    answers: asyncio.Future[Sequence[Answer]]


class GatheringChannel:
    """Gather commands for the host, and keep few calls to it in flight."""

    def __init__(self, link: HostLink, host: int) -> None:
        self._link = link
        self._host = host
        self._gathering: asyncio.TimerHandle | None = None
        self._waiting: deque[_Waiting] = deque()
        self._commands_waiting = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def send(self, batch: Sequence[Routed]) -> Sequence[Answer]:
        """Send a batch, with others that wait."""
        if self._commands_waiting + len(batch) > COMMANDS_WAITING_MAX:
            return [_OVERLOADED] * len(batch)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(batch, loop.create_future())
        self._waiting.append(waiting)
        self._commands_waiting += len(batch)
        loop.call_soon(self._call_next)
        return await waiting.answers

    def _call_next(self) -> None:
        while self._waiting and len(self._calls) < BULK_CALLS_AT_ONCE_MAX:
            if self._calls and self._commands_waiting < CROWD_COMMANDS_MIN:
                self._gather()
                return
            self._call_now()

    def _gather(self) -> None:
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(GATHER_SECONDS, self._end_gathering)

    def _end_gathering(self) -> None:
        self._gathering = None
        if self._waiting and len(self._calls) < BULK_CALLS_AT_ONCE_MAX:
            self._call_now()

    def _call_now(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        call = asyncio.create_task(self._call(self._take()))
        call.add_done_callback(self._called)
        self._calls.add(call)

    def _take(self) -> list[_Waiting]:
        """Take what fits into one call, in order."""
        taken: list[_Waiting] = []
        room = COMMANDS_PER_CALL_MAX
        while self._waiting and len(self._waiting[0].batch) <= room:
            taken.append(self._waiting.popleft())
            room -= len(taken[-1].batch)
        self._commands_waiting -= COMMANDS_PER_CALL_MAX - room
        return taken

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._call_next()

    async def _call(self, taken: list[_Waiting]) -> None:
        batch = [routed for waiting in taken for routed in waiting.batch]
        answers = await _call(self._link, self._host, batch)
        start = 0
        for waiting in taken:
            end = start + len(waiting.batch)
            if not waiting.answers.done():
                waiting.answers.set_result(answers[start:end])
            start = end


async def _call(link: HostLink, host: int, batch: Sequence[Routed]) -> Sequence[Answer]:
    try:
        sent = encode_commands(batch)
        deadline = max(routed.command.deadline for routed in batch) + CALL_OVERRUN
        received = await link.execute(host, sent, slot=batch[0].slot or 0, deadline=deadline)
        return decode_replies(received)
    except HostUnavailable as error:
        return [error] * len(batch)
    except Exception as error:  # noqa: BLE001  # or the callers would wait for ever
        _log.error("call_failed", host=host, **describe(error))
        return [HostUnavailable()] * len(batch)
