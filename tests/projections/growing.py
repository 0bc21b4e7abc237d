"""A log that grows as fast as a test lets it, and is followed for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

from eventlog.port import Entry, EventLog
from tests.projections.histories import ListedLog

LOOK_EVERY_SECONDS = 0.002


class GrowingLog(ListedLog):
    """Hands out entries of a history, in slices, as they are released."""

    def __init__(self, entries: Sequence[Entry], *, slice_events: int = 50) -> None:
        super().__init__(list(entries))
        self._slice_events = slice_events

    @property
    def log(self) -> EventLog:
        """The log as projectors take it."""
        return cast("EventLog", self)

    def grow(self, entries: Sequence[Entry]) -> None:
        """Append."""
        cast("list[Entry]", self.entries).extend(entries)

    def ready_after(self, revision: int) -> list[Entry]:
        """Give what comes next to a follower."""
        return list(self.entries[revision : revision + self._slice_events])

    async def follow(
        self,
        *,
        after_revision: int,
        batch_events_max: int = 1_000,  # the protocol's
    ) -> AsyncIterator[list[Entry]]:
        """Yield for ever."""
        while True:
            found = self.ready_after(after_revision)
            if found:
                after_revision = found[-1].revision
                yield found
            await asyncio.sleep(LOOK_EVERY_SECONDS)
