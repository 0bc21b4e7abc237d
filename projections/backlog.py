"""What was read of the log and is not folded yet, given in batches of whole appends.

The projector's reader fills it and waits where it is full; its folder takes batches, the next one
also while it is busy with another. An append is never parted, however long it is; many events that
can be dealt out never share a batch with one that cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from eventlog.port import Entry
from projections.dealing import may_be_dealt

BATCH_EVENTS_MAX = 10_000
"""Events a transaction, when so many wait; a lone event is folded as soon as it comes."""

DEALT_EVENTS_MIN = 1_000
"""Of a batch that is dealt out: a smaller one is folded sooner than that is done."""

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
            count = self._count()
            if not count and self._fault is not None:
                raise self._fault
            taken, self._entries = self._entries[:count], self._entries[count:]
            self._changed.notify_all()
            return taken

    @property
    def _is_full(self) -> bool:
        return len(self._entries) >= BATCH_EVENTS_MAX

    def _has_room(self) -> bool:
        return len(self._entries) < WAITING_EVENTS_MAX or not self._whole()

    def _count(self) -> int:
        """Count the entries of the next batch.

        It ends before or after what cannot be dealt out, where enough stands there that can.
        """
        whole = self._whole()
        end = run = 0  # of the appends so far, and where those began that can be dealt out
        for append_end, can_be_dealt in self._appends(whole):
            if not can_be_dealt:
                if end - run >= DEALT_EVENTS_MIN:
                    return run or end
                run = append_end
            end = append_end
        return run if run and whole - run >= DEALT_EVENTS_MIN else whole

    def _appends(self, whole: int) -> Iterator[tuple[int, bool]]:
        """Say of each append where it ends, and whether all its events can be dealt out."""
        can_be_dealt = True
        for place, entry in enumerate(self._entries[:whole], start=1):
            can_be_dealt = can_be_dealt and may_be_dealt(entry)
            if entry.ends_append:
                yield place, can_be_dealt
                can_be_dealt = True

    def _whole(self) -> int:
        """Count whole appends: up to the last that ends in a batch, or to the first."""
        entries = self._entries
        for count in range(min(len(entries), BATCH_EVENTS_MAX), 0, -1):
            if entries[count - 1].ends_append:
                return count
        return next((n for n, e in enumerate(entries, start=1) if e.ends_append), 0)
