"""Group commit: what arrives while appends are in flight goes out next, as one atomic batch.

A host's turns append through one of these. Under `sync_interval: always` a batch costs a disk sync,
whatever its size, so the busier the host the fewer syncs an event costs. Each attempt keeps its own
outcome: one that lost its race is found by one read of the heads, and the others go out again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence

from domain.ids import Stream
from eventlog.commit_queue import CommitQueue, Part
from eventlog.deadlines import Deadlines
from eventlog.errors import LogError
from eventlog.outgoing import LOG_UNAVAILABLE, NO_EVENTS, NOBODYS_FAULT
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

APART_PARTS_MAX = 32
"""Attempts on suspect streams that go out at once, each by itself."""

SUSPECTS_MAX = 1_024
"""Streams that lost a race and have stored nothing since; the oldest are acquitted first.

Attempts on them go out apart: one subject in permanent conflict would have every batch refused, its
heads read, and the others sent again. 64 writers beside such a subject keep their rate; without
this they kept 46 % of it.
"""

ISOLATIONS_MAX = 3
"""Reads of the heads for one batch; after that its attempts go out one by one."""

OVERRUN_SECONDS_MAX = 0.25
"""How long after a caller's deadline its outcome may still come, once its attempt was sent."""


class GroupCommit:
    """Append attempts of many callers to one log, in as few batches as can be."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._urgent = CommitQueue(self._dispatch, gathers=False)
        self._patient = CommitQueue(self._dispatch, gathers=True)
        self._in_flight: set[Stream] = set()
        self._suspects: OrderedDict[Stream, None] = OrderedDict()
        self._flights_apart: set[asyncio.Task[None]] = set()
        self._deadlines = Deadlines(self._expire)
        self._is_closed = False

    async def close(self) -> None:
        """Send nothing more; of what is on its way only the log knows the outcome."""
        self._is_closed = True
        for queue in (self._urgent, self._patient):
            self._settle(queue.clear(), Refused(LOG_UNAVAILABLE))
        flights = [*self._urgent.flights, *self._patient.flights, *self._flights_apart]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def append(
        self, attempt: Attempt, *, timeout_seconds: float, may_wait: bool = False
    ) -> Outcome:
        """Store an attempt with whatever else is waiting; its outcome is its own.

        One that may wait a moment lets others gather, and those that may not pass it.
        """
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def hear(outcome: Outcome) -> None:
            if not told.done():
                told.set_result(outcome)

        part = self._submit(attempt, hear, timeout_seconds=timeout_seconds, may_wait=may_wait)
        try:
            return await told
        finally:
            if not part.is_settled:
                # Of a caller that went away nothing is sent any more that was not sent yet.
                self._leave(part)

    def submit(
        self,
        attempt: Attempt,
        hear: Callable[[Outcome], None],
        *,
        timeout_seconds: float,
        may_wait: bool = False,
    ) -> None:
        """Store an attempt as `append` does, and `hear` its outcome once, with no task in between.

        `hear` must be quick and raise nothing: whoever was stored with it hears after it.
        """
        self._submit(attempt, hear, timeout_seconds=timeout_seconds, may_wait=may_wait)

    def _submit(
        self,
        attempt: Attempt,
        hear: Callable[[Outcome], None],
        *,
        timeout_seconds: float,
        may_wait: bool,
    ) -> Part:
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        part = Part(attempt, deadline, hear)
        if not attempt.drafts:
            self._tell(part, Refused(NO_EVENTS))
            return part
        if self._is_closed:
            self._tell(part, Refused(LOG_UNAVAILABLE))
            return part
        part.ticket = self._deadlines.add(part, part.deadline)
        (self._patient if may_wait else self._urgent).put(part)
        return part

    def send_urgent(self) -> None:
        """Let what may not wait go out now, not in the next pass of the loop."""
        self._urgent.send()

    def give_way(self) -> None:
        """Leave what may wait aside more often for a while: somebody came who does not wait."""
        self._patient.give_way()

    def end_gathering(self) -> None:
        """Let what may wait and waits now gather no more: nothing is about to join it."""
        self._patient.end_gathering()

    def hurry(self) -> None:
        """Let nothing gather that waits now: somebody waits for it after all."""
        self._patient.hurry()

    def _dispatch(self, queue: CommitQueue) -> None:
        while queue.is_flight_due and (parts := self._take(queue, apart=False)):
            self._launch(parts, self._commit(parts), follow=queue.follow)
        if self._suspects and not self._flights_apart and (parts := self._take(queue, apart=True)):
            self._launch(parts, self._commit_each(parts), follow=self._follow_apart)

    def _take(self, queue: CommitQueue, *, apart: bool) -> list[Part]:
        """Take what may go out together: what touches suspect streams (`apart`), or the others."""
        return queue.take(
            lambda part: self._is_suspect(part) == apart,
            barred=set(self._in_flight),
            room=APART_PARTS_MAX if apart else queue.events_max,
            by_parts=apart,
        )

    def _is_suspect(self, part: Part) -> bool:
        return bool(self._suspects) and any(s in self._suspects for s in part.attempt.expected)

    def _launch(
        self,
        parts: Sequence[Part],
        work: Coroutine[None, None, None],
        *,
        follow: Callable[[asyncio.Task[None]], None],
    ) -> None:
        for part in parts:
            part.is_sent = True
            self._in_flight.update(part.attempt.expected)

        def land(_: asyncio.Task[None]) -> None:
            for part in parts:
                self._in_flight.difference_update(part.attempt.expected)
            self._settle(parts, Unknown())
            self._urgent.wake()
            self._patient.wake()

        task = asyncio.create_task(work, name="group-commit")
        follow(task)
        task.add_done_callback(land)

    def _follow_apart(self, flight: asyncio.Task[None]) -> None:
        self._flights_apart.add(flight)
        flight.add_done_callback(self._flights_apart.discard)

    async def _commit(self, parts: Sequence[Part]) -> None:
        for _isolation in range(ISOLATIONS_MAX):
            if not parts:
                return
            if len(parts) == 1:
                await self._commit_alone(parts[0])
                return
            outcome = await self._append(parts)
            match outcome:
                case Stored():
                    self._divide(parts, outcome)
                    return
                case Unknown():
                    return
                case Conflict():
                    parts = await self._without_losers(parts)
                case Refused(reason=reason) if reason in NOBODYS_FAULT:
                    self._settle(parts, outcome)
                    return
                case Refused():
                    await self._commit_halves(parts)
                    return
        await self._commit_each(parts)

    async def _commit_halves(self, parts: Sequence[Part]) -> None:
        """Find whom the log refuses without sending all the others one by one."""
        half = len(parts) // 2
        await self._commit(parts[:half])
        await self._commit(parts[half:])

    async def _commit_each(self, parts: Sequence[Part]) -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self._commit_alone(part))

    async def _commit_alone(self, part: Part) -> None:
        outcome = await self._append([part])
        if isinstance(outcome, Conflict):
            self._suspect(part.attempt.expected)
        elif isinstance(outcome, Stored) and self._suspects:
            for stream in part.attempt.expected:
                self._suspects.pop(stream, None)
        self._tell(part, outcome)

    async def _append(self, parts: Sequence[Part]) -> Outcome:
        left = max(part.deadline for part in parts) - asyncio.get_running_loop().time()
        return await self._log.append(_together(parts), timeout_seconds=max(left, 0.0))

    async def _without_losers(self, parts: Sequence[Part]) -> list[Part]:
        """Tell the attempts whose streams have moved on that they lost; give the others.

        Where a stream seems to end before its expectation, a replica lags or the writer is wrong:
        such an attempt goes out by itself.
        """
        try:
            entries = await self._log.last_entries(_streams_of(parts))
        except LogError:
            return list(parts)
        heads = {stream: entry.head for stream, entry in entries.items()}
        clear: list[Part] = []
        doubtful: list[Part] = []
        for part in parts:
            expected = part.attempt.expected.items()
            ahead = {s: heads.get(s, EMPTY).revision - head.revision for s, head in expected}
            if moved := [stream for stream, revisions in ahead.items() if revisions > 0]:
                self._suspect(moved)
                self._tell(part, Conflict())
            else:
                (doubtful if min(ahead.values(), default=0) < 0 else clear).append(part)
        await self._commit_each(doubtful)
        return clear

    def _suspect(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            self._suspects[stream] = None
            self._suspects.move_to_end(stream)
        while len(self._suspects) > SUSPECTS_MAX:
            self._suspects.popitem(last=False)

    def _expire(self, part: Part) -> None:
        """Settle a part whose time is up: what was never sent is surely not stored."""
        if not part.is_sent:
            self._tell(part, Refused(LOG_UNAVAILABLE))
            return
        loop = asyncio.get_running_loop()
        # Mostly the log itself is about to say more.
        loop.call_later(OVERRUN_SECONDS_MAX, self._tell, part, Unknown())

    def _settle(self, parts: Sequence[Part], outcome: Outcome) -> None:
        for part in parts:
            self._tell(part, outcome)

    def _tell(self, part: Part, outcome: Outcome) -> None:
        if not part.is_settled:
            self._leave(part)
            part.hear(outcome)

    def _divide(self, parts: Sequence[Part], stored: Stored) -> None:
        """Give each attempt its own events and heads."""
        start, events, heads = 0, stored.events, stored.heads
        for part in parts:
            end = start + len(part.attempt.drafts)
            own = {stream: heads[stream] for stream in part.attempt.expected}
            self._tell(part, Stored(events[start:end], own))
            start = end

    def _leave(self, part: Part) -> None:
        part.is_settled = True
        self._deadlines.remove(part, part.ticket)


def _streams_of(parts: Sequence[Part]) -> list[Stream]:
    return [stream for part in parts for stream in part.attempt.expected]


def _together(parts: Sequence[Part]) -> Attempt:
    if len(parts) == 1:
        return parts[0].attempt
    return Attempt(
        drafts=tuple(draft for part in parts for draft in part.attempt.drafts),
        expected={s: head for part in parts for s, head in part.attempt.expected.items()},
    )
