"""Erases somebody of whom an event cannot be read: the one command that does not wait for it.

Such a customer is never kept awake: what is read here serves this one decision, which the heads of
every record and identifier guard (R1), whoever else decides at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from actors.awake import AwakeRecord
from actors.faults import describe
from actors.identifier_streams import stream_of
from actors.messages import failed
from actors.readiness import Readiness
from actors.rounds import Waiting
from actors.turn import TurnTaker
from actors.waking import Waker
from domain.errors import Kind
from domain.ids import IdentifierKey, identifier_stream
from eventlog.errors import LogError
from eventlog.port import EventLog

ERASED_AT_ONCE_MAX = 8

_log = structlog.get_logger()


class UnreadErasures:
    """Carry out erasures that a round found unreadable; each has a task of its own."""

    def __init__(
        self,
        log: EventLog,
        *,
        waker: Waker,
        ready: Readiness,
        taker: TurnTaker,
        tries_max: int,
    ) -> None:
        self._log = log
        self._waker = waker
        self._ready = ready
        self._taker = taker
        self._tries_max = tries_max
        self._room = asyncio.Semaphore(ERASED_AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, waiting: Waiting) -> None:
        """Erase whom a command names, or answer why that cannot be. Never raises."""
        task = asyncio.create_task(self._erase(waiting), name="erase-unread")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop; commands that are under way are left to their callers' retries."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _erase(self, waiting: Waiting) -> None:
        async with self._room:
            try:
                await self._until_settled(waiting)
            except LogError as error:
                waiting.reply(failed(Kind.UNAVAILABLE, error.reason, error.message))
            except Exception as error:  # noqa: BLE001  # or its caller would wait for ever
                _log.error("erasure_failed", **describe(error))
                text = "the host failed in the erasure"
                waiting.reply(failed(Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME", text))

    async def _until_settled(self, waiting: Waiting) -> None:
        while waiting.tries < self._tries_max:
            records = await self._read(waiting)
            if not records:
                self._taker.answer_unreadable(waiting)
                return
            result = await self._taker.take([waiting], records)
            if waiting.is_answered:
                return
            waiting.tries += 1
            if any(left.forgotten_by for left in result.left_over):
                await self._ready.recall([waiting])
        text = "the customer keeps changing"
        waiting.reply(failed(Kind.CONFLICT, "CONFLICT_BUDGET_SPENT", text))

    async def _read(self, waiting: Waiting) -> Sequence[AwakeRecord]:
        """Read whom it names, and all that they hold; nothing where that is not sure.

        Raises `LogError`.
        """
        read, unsure = await self._waker.wake(set(waiting.named), {}, is_for_erasure=True)
        if unsure or await self._is_anybodys(waiting, read):
            return ()
        return [item for item in read if item.head.version]

    async def _is_anybodys(self, waiting: Waiting, read: Sequence[AwakeRecord]) -> bool:
        """Note the heads of all identifiers; say whether one that is named may be somebody else's.

        What a record says of its identifiers is told by its own events, also where theirs are not
        readable.
        """
        held = {key for item in read for key in item.record.identifiers}
        named = {item.key for item in waiting.routed.command.identifiers}
        waiting.held = frozenset(held)
        found = await self._log.last_entries([identifier_stream(k) for k in held | named])
        waiting.streams = {IdentifierKey(s.key): stream_of(entry) for s, entry in found.items()}
        unread = {IdentifierKey(s.key) for s, entry in found.items() if entry.event is None}
        return bool((named & unread) - held)
