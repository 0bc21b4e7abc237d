"""Deadlines of many waiters at once: those that end together share one timer of the loop.

Group commit keeps one for each append that waits. A timer of its own would cost an append more than
its place in a batch does, and nearly none is ever needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

TICKS_PER_SECOND = 64
"""How finely deadlines are told apart: one is noticed at most 16 ms late, never early."""

W = TypeVar("W")


class Deadlines(Generic[W]):
    """Call back for every waiter that is still there when its time is up. One event loop only."""

    def __init__(self, expire: Callable[[W], None]) -> None:
        self._expire = expire
        self._waiters: dict[int, set[W]] = {}

    def add(self, waiter: W, deadline: float) -> int:
        """Wait until a time of the loop's clock; give the ticket with which to `remove`."""
        tick = int(deadline * TICKS_PER_SECOND) + 1
        waiters = self._waiters.get(tick)
        if waiters is None:
            waiters = self._waiters[tick] = set()
            loop = asyncio.get_running_loop()
            loop.call_at(tick / TICKS_PER_SECOND, self._ring, tick)
        waiters.add(waiter)
        return tick

    def remove(self, waiter: W, ticket: int) -> None:
        """Wait for this one no more."""
        if waiters := self._waiters.get(ticket):
            waiters.discard(waiter)

    def _ring(self, tick: int) -> None:
        for waiter in self._waiters.pop(tick):
            self._expire(waiter)
