"""What was read of the log and is not folded yet, given in batches of whole appends.

The projector's reader fills it and waits where it is full; its folder takes batches, the next one
also while it is busy with another. An append is never parted, however long it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from eventlog.port import Entry

BATCH_EVENTS_MAX = 5_000
"""Events a transaction, when so many wait; a lone event is folded as soon as it comes."""

WAITING_EVENTS_MAX = 10_000
"""Of more nothing is read until some are taken."""


class Backlog:
    """Events between who reads the log and who folds it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._is_ended = False
        self._fault: Exception | None = None
        self._changed = asyncio.Condition()

    @property
    def has_more(self) -> bool:
        """Whether `take` would wait for nothing: there is a whole append, or the end."""
        return self._is_ended or self._whole() > 0

    async def read(self, log: AsyncIterator[list[Entry]]) -> None:
        """Take in what comes until its end; whoever takes events then is told why, after them."""
        try:
            async for entries in log:
                async with self._changed:
                    await self._changed.wait_for(self._has_room)
                    self._entries += entries
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001  # raised where it is waited for events
            self._fault = error
        async with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    async def take(self) -> list[Entry]:
        """Wait for a whole append, and take as many as make a batch; none at the log's end.

        Raises what the reading raised.
        """
        return await self._take_when(lambda: self.has_more)

    async def take_full(self) -> list[Entry]:
        """Take a batch as `take`, but wait until it is as large as batches become."""
        return await self._take_when(lambda: self.has_more and (self._is_full or self._is_ended))

    async def _take_when(self, may: Callable[[], bool]) -> list[Entry]:
        async with self._changed:
            await self._changed.wait_for(may)
            whole = self._whole()
            if not whole and self._fault is not None:
                raise self._fault
            taken, self._entries = self._entries[:whole], self._entries[whole:]
            self._changed.notify_all()
            return taken

    @property
    def _is_full(self) -> bool:
        return len(self._entries) >= BATCH_EVENTS_MAX

    def _has_room(self) -> bool:
        return len(self._entries) < WAITING_EVENTS_MAX or not self._whole()

    def _whole(self) -> int:
        """Count the entries of a batch: up to the last append that ends in it, or to its first."""
        entries = self._entries
        for count in range(min(len(entries), BATCH_EVENTS_MAX), 0, -1):
            if entries[count - 1].ends_append:
                return count
        return next((n for n, e in enumerate(entries, start=1) if e.ends_append), 0)
