"""Wait until the read side has seen a revision: one look-out a process, however many wait."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from domain.errors import DomainError, Kind

LOOK_EVERY_SECONDS = 0.004
WAIT_SECONDS_MAX = 30.0
ANSWER_SECONDS = 0.05
"""Left before the caller's deadline for saying that the wait was in vain."""
WAITING_MAX = 10_000


class RevisionNotReached(DomainError):
    """The read side did not come to the revision in time."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("REVISION_NOT_REACHED", "the read side is still behind that revision")


class Freshness:
    """Wake whoever waits for a revision, in order of revisions."""

    def __init__(self, revision_now: Callable[[], int]) -> None:
        self._revision_now = revision_now
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._looking: asyncio.Task[None] | None = None

    async def reach(self, revision: int, *, timeout_seconds: float | None) -> None:
        """Wait for a revision. Raises `RevisionNotReached`."""
        if not revision or revision <= self._revision_now():
            return
        if len(self._waiting) >= WAITING_MAX:
            raise RevisionNotReached
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), reached))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_out())
        left = WAIT_SECONDS_MAX if timeout_seconds is None else timeout_seconds - ANSWER_SECONDS
        try:
            async with asyncio.timeout(min(left, WAIT_SECONDS_MAX)):
                await reached
        except TimeoutError as error:
            raise RevisionNotReached from error

    async def _look_out(self) -> None:
        while self._waiting:
            now = self._revision_now()
            while self._waiting and self._is_over(now):
                _revision, _order, reached = heapq.heappop(self._waiting)
                if not reached.done():
                    reached.set_result(None)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _is_over(self, now: int) -> bool:
        revision, _order, reached = self._waiting[0]
        return revision <= now or reached.done()
