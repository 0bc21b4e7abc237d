"""Attempts that wait to be stored, and when some of them may go. `commit.py` sends them.

A group commit has two such queues: what callers wait for goes at once, and passes what may wait a
moment, which gathers into full batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from domain.ids import Stream
from eventlog.port import Attempt, Outcome

BATCH_EVENTS_MAX = 256
"""Events that wait together in one batch; an attempt of more goes out by itself."""

FLIGHTS_MAX = 4
"""Batches of a queue on their way at once, where there is a crowd: while some are encoded the
server stores the others. With 1,024 appends outstanding four of 256 events store 29,100 events a
second, three of 500 26,200, eight of 128 25,600."""

CROWD_EVENTS_MIN = 128
"""Events that must wait before a second batch goes out; of attempts that may wait, before a batch
goes out with no rest. Small batches are better whole: 64 writers store 7,300 events a second in one
at a time, 5,300 in two halves, 3,700 in quarters; plain publishes, pipelined, 5,000."""

GATHERED_EVENTS_MAX = 512
"""Events of attempts that may wait, in one batch; another one goes beside it once that is full. The
server takes 1.2 ms for a batch, and 10 us to 20 us for each event of it."""

GATHER_SECONDS = 0.05
"""Attempts that may wait go out once a batch is full, or nothing is about to join them
(`end_gathering`), or after so long: a host that works slice by slice has few ready at a time."""

RESTS_PER_FLIGHT = 3
REST_SECONDS_MAX = 0.1
"""Where it gives way and there is no crowd, what may wait leaves the server's one queue to what may
not: for so many times as long as its last batch was on its way, at most so long. Beside 5,000
signals a second a command takes two thirds of the time, but small calls of `Ingest`, one after
another, take twice as long."""

GIVES_WAY_SECONDS = 1.0
"""How long it gives way after somebody came who does not wait: twice as long as hosts take to tell
each other so."""


@dataclass(slots=True, eq=False)
class Part:
    """An attempt of one caller, who hears its outcome once."""

    attempt: Attempt
    deadline: float
    hear: Callable[[Outcome], None]
    ticket: int = 0
    is_sent: bool = False
    is_settled: bool = False

    @property
    def events(self) -> int:
        """How many events it stores."""
        return len(self.attempt.drafts)


class CommitQueue:
    """Parts in the order in which they came, and the batches of them that are on their way.

    `dispatch` is called when some may go, `events_max` in one batch. With `gathers` that is when a
    batch is full, or has gathered, and the last one has rested.
    """

    def __init__(self, dispatch: Callable[[CommitQueue], None], *, gathers: bool) -> None:
        self.flights: set[asyncio.Task[None]] = set()
        self.events_max = GATHERED_EVENTS_MAX if gathers else BATCH_EVENTS_MAX
        self._crowd_min = GATHERED_EVENTS_MAX if gathers else CROWD_EVENTS_MIN
        self._dispatch = dispatch
        self._gathers = gathers
        self._parts: deque[Part] = deque()
        self._events = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gathers_until = 0.0
        self._rests_until = 0.0
        self._gives_way_until = 0.0
        self._is_hurried = False
        self._is_woken = False

    @property
    def is_flight_due(self) -> bool:
        """Whether a batch may go now: alone, or beside another if there is a crowd."""
        if not self._parts or not self.flights:
            return bool(self._parts)
        return len(self.flights) < FLIGHTS_MAX and self._events >= self._crowd_min

    def put(self, part: Part) -> None:
        """Have a part wait, and be dispatched in time."""
        if not self._parts and self._gathers:
            self._gathers_until = asyncio.get_running_loop().time() + GATHER_SECONDS
        self._parts.append(part)
        self._events += part.events
        self.wake()

    def follow(self, flight: asyncio.Task[None]) -> None:
        """Count a batch as on its way, until it has landed."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def land(_: asyncio.Task[None]) -> None:
            self.flights.discard(flight)
            now = loop.time()
            self._rests_until = now + min(RESTS_PER_FLIGHT * (now - began), REST_SECONDS_MAX)

        self.flights.add(flight)
        flight.add_done_callback(land)

    def wake(self) -> None:
        """Dispatch in the next pass of the loop, so that all that is ready now joins in."""
        if not self._parts or self._is_woken:
            return
        loop = asyncio.get_running_loop()
        left = self._waits_until - loop.time()
        if left > 0:
            self._timer = self._timer or loop.call_later(left, self._wake_again)
            return
        self._is_woken = True
        loop.call_soon(self._go)

    @property
    def _waits_until(self) -> float:
        if not self._gathers or self._is_hurried or self._events >= self.events_max:
            return 0.0
        if self._events >= CROWD_EVENTS_MIN:
            return self._gathers_until
        return max(self._gathers_until, min(self._rests_until, self._gives_way_until))

    def send(self) -> None:
        """Dispatch in this pass of the loop: more than what is ready does not join in."""
        if self._is_woken:
            self._go()

    def give_way(self) -> None:
        """Let batches rest after one another for a while: somebody came who does not wait."""
        self._gives_way_until = asyncio.get_running_loop().time() + GIVES_WAY_SECONDS

    def end_gathering(self) -> None:
        """Let what waits now go once the last batch has rested: nothing is about to join it."""
        self._gathers_until = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._wake_again()

    def hurry(self) -> None:
        """Let what waits now go as soon as it may; what comes after gathers again."""
        if self._parts:
            self._is_hurried = True
            self._go()

    def take(
        self, is_wanted: Callable[[Part], bool], *, barred: set[Stream], room: int, by_parts: bool
    ) -> list[Part]:
        """Take what may go out together, in order; who shares a stream with another waits for it.

        `barred` are the streams of what goes before; `room` counts events, or parts.
        """
        taken: list[Part] = []
        left: list[Part] = []
        while self._parts and room > 0:
            part = self._parts.popleft()
            self._events -= part.events
            if part.is_settled:
                continue
            touched = part.attempt.expected.keys()
            size = 1 if by_parts else part.events
            is_free = barred.isdisjoint(touched) and is_wanted(part)
            if is_free and (size <= room or not taken):
                taken.append(part)
                room -= size
            else:
                left.append(part)
            # Whatever shares a stream with one that goes first or waits, waits behind it.
            barred.update(touched)
        self._parts.extendleft(reversed(left))
        self._events += sum(part.events for part in left)
        return taken

    def clear(self) -> list[Part]:
        """Take all that wait."""
        waiting = list(self._parts)
        self._parts.clear()
        self._events = 0
        return waiting

    def _wake_again(self) -> None:
        self._timer = None
        self.wake()

    def _go(self) -> None:
        self._is_woken = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dispatch(self)
        self._is_hurried = self._is_hurried and bool(self._parts)
