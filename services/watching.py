"""Streams that go on for as long as the caller listens: one look at the read side per movement.

What is read at a time is limited, and nothing is read before the caller has taken what came before:
a slow caller holds a place in the journal, not a queue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from domain.errors import DomainError, Kind
from projections.row_keys import read_long
from projections.store import Store
from projections.tables import ReadTables
from services.freshness import Freshness, RevisionNotReached

WATCHES_MAX = 500
"""In one process; a watch is a call that does not end."""

T = TypeVar("T")


class TooManyWatches(DomainError):
    """As many callers as may be are listening."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("TOO_MANY_WATCHES", "as many changes as may be are watched: try later")


class Watches:
    """The watches of one process."""

    def __init__(self, store: Store, freshness: Freshness) -> None:
        self._store = store
        self._freshness = freshness
        self._open = 0

    async def follow(
        self,
        read: Callable[[ReadTables], Sequence[T]],
        *,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> AsyncIterator[T]:
        """Yield what `read` gives, again whenever the read side has moved on.

        `is_behind` says whether the last read left something to be read at once. Raises
        `TooManyWatches`, and whatever `read` raises.
        """
        if self._open >= WATCHES_MAX:
            raise TooManyWatches
        self._open += 1
        try:
            async for item in self._follow(read, is_behind):
                yield item
        finally:
            self._open -= 1

    async def _follow(
        self, read: Callable[[ReadTables], Sequence[T]], is_behind: Callable[[], bool]
    ) -> AsyncIterator[T]:
        def look(tables: ReadTables) -> tuple[int, Sequence[T]]:
            return tables.checkpoint.revision, read(tables)

        while True:
            revision, found = await read_long(self._store, look)
            for item in found:
                yield item
            if not found and not is_behind():
                with suppress(RevisionNotReached):  # nothing has happened for a while
                    await self._freshness.reach(revision + 1, timeout_seconds=None)
