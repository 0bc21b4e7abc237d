"""Group commit: what arrives while an append is in flight goes out next, as one atomic batch.

A host's turns append through one of these. Under `sync_interval: always` a batch costs a disk sync,
whatever its size, so the busier the host the fewer syncs an event costs. Each attempt keeps its own
outcome: one that lost its race is found by one read of the heads, and the others go out again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from domain.ids import EVENTS_PER_APPEND_MAX, Stream
from eventlog.errors import LogError
from eventlog.port import (
    EMPTY,
    Attempt,
    Conflict,
    EventLog,
    Outcome,
    Refused,
    Stored,
    Unknown,
)

ISOLATIONS_MAX = 3
"""Reads of the heads for one batch; after that its attempts go out one by one."""


@dataclass(slots=True)
class _Part:
    attempt: Attempt
    deadline: float
    outcome: asyncio.Future[Outcome]


class GroupCommit:
    """Append attempts of many callers to one log, in as few batches as can be."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._waiting: deque[_Part] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        """Store an attempt with whatever else is waiting; its outcome is its own."""
        loop = asyncio.get_running_loop()
        part = _Part(attempt, loop.time() + timeout_seconds, loop.create_future())
        self._waiting.append(part)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="group-commit")
        return await part.outcome

    async def _commit_all(self) -> None:
        while self._waiting:
            # One pass of the loop lets every turn that is ready join the batch.
            await asyncio.sleep(0)
            parts = self._take()
            try:
                await self._commit(parts)
            finally:
                _settle(parts, Unknown())

    def _take(self) -> list[_Part]:
        """Take what fits into one batch, in order; who shares a stream with it waits."""
        parts: list[_Part] = []
        left: list[_Part] = []
        streams: set[Stream] = set()
        events = 0
        while self._waiting and events < EVENTS_PER_APPEND_MAX:
            part = self._waiting.popleft()
            size = len(part.attempt.drafts)
            touched = part.attempt.expected.keys()
            fits = events + size <= EVENTS_PER_APPEND_MAX and streams.isdisjoint(touched)
            # Whatever shares a stream with one that waits, waits behind it.
            streams |= touched
            if fits or not parts:
                parts.append(part)
                events += size
            else:
                left.append(part)
        self._waiting.extendleft(reversed(left))
        return parts

    async def _commit(self, parts: list[_Part]) -> None:
        for _isolation in range(ISOLATIONS_MAX):
            outcome = await self._append(parts)
            match outcome:
                case Stored():
                    _divide(parts, outcome)
                    return
                case Unknown():
                    return
                case Conflict() | Refused() if len(parts) == 1:
                    _settle(parts, outcome)
                    return
                case Conflict():
                    parts = await self._without_losers(parts)
                case Refused():
                    break
            if not parts:
                return
        await asyncio.gather(*(self._commit_alone(part) for part in parts))

    async def _commit_alone(self, part: _Part) -> None:
        _settle([part], await self._append([part]))

    async def _append(self, parts: Sequence[_Part]) -> Outcome:
        merged = Attempt(
            drafts=tuple(draft for part in parts for draft in part.attempt.drafts),
            expected={s: head for part in parts for s, head in part.attempt.expected.items()},
        )
        left = max(part.deadline for part in parts) - asyncio.get_running_loop().time()
        return await self._log.append(merged, timeout_seconds=max(left, 0.0))

    async def _without_losers(self, parts: list[_Part]) -> list[_Part]:
        """Tell the attempts whose streams have moved on that they lost; give the others."""
        streams = [stream for part in parts for stream in part.attempt.expected]
        try:
            entries = await self._log.last_entries(streams)
        except LogError:
            return parts
        heads = {stream: entry.head for stream, entry in entries.items()}
        lost = [
            part
            for part in parts
            if any(
                heads.get(stream, EMPTY).revision != head.revision
                for stream, head in part.attempt.expected.items()
            )
        ]
        _settle(lost, Conflict())
        return [part for part in parts if not part.outcome.done()]


def _settle(parts: Sequence[_Part], outcome: Outcome) -> None:
    for part in parts:
        if not part.outcome.done():
            part.outcome.set_result(outcome)


def _divide(parts: Sequence[_Part], stored: Stored) -> None:
    """Give each attempt its own events and heads."""
    start = 0
    for part in parts:
        end = start + len(part.attempt.drafts)
        heads = {stream: stored.heads[stream] for stream in part.attempt.expected}
        _settle([part], Stored(stored.events[start:end], heads))
        start = end
