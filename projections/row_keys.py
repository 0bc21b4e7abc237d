"""The data keys that rows are read and written with: loaded in bulk, when a row asks for them.

Keys come over the network. What runs in a thread of its own waits for them (`in_thread`), so it may
look at more customers than a process holds keys for, a slice after the other. Elsewhere nobody can
wait: a read that lacks keys ends with `KeysNotHeld`, they are fetched, and it begins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from threading import Lock
from typing import Protocol, TypeVar

from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import KeyAnswer
from projections.errors import KeysNotHeld
from projections.rows import RowCodec
from projections.tables import ReadTables

TRIES_MAX = 16
"""How often a read begins again for keys; each time with all that it could name before."""

PINNED_MAX = 20_000
"""Answers kept beside the ring's own, so that a large batch does not push out its own keys."""

THREADS_MAX = 8
"""That do work on rows for a process beside its projector; more work waits for one."""

LOAD_SECONDS_MAX = 60.0
"""That a thread waits for keys; each request for them has a shorter time of its own."""

T = TypeVar("T")


class Readable(Protocol):
    """Whatever gives snapshots to read, such as `store.Store`."""

    @property
    def codec(self) -> RowCodec:
        """How its rows are stored."""

    def snapshot(self) -> AbstractContextManager[ReadTables]:
        """Read the rows as of one checkpoint."""


class RowKeys:
    """Hold the keys of the rows at hand, over the ring of the process."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._pinned: dict[RecordId, KeyAnswer] = {}
        self._fetching: list[set[RecordId]] = []
        ring.listen(self._forget)

    def key_of(self, record_id: RecordId) -> KeyAnswer | None:
        """Give the key of a record, why there is none, or None where it was not loaded."""
        held = self._ring.held(record_id)
        return self._pinned.get(record_id) if held is None else held

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load keys. Raises `LogUnavailable`."""
        if len(self._pinned) > PINNED_MAX:
            self._pinned.clear()
        await self._ring.load(())  # from here on it follows, and tells what is destroyed
        wanted = set(record_ids)
        self._fetching.append(wanted)
        try:
            found = await self._ring.load(wanted)
        finally:
            self._fetching = [other for other in self._fetching if other is not wanted]
        self._pinned |= {record_id: found[record_id] for record_id in wanted}

    def _forget(self, record_ids: Collection[RecordId] | None) -> None:
        """Let go of destroyed keys, and do not take up those that are on their way.

        The ring may have room for that word no longer than we do.
        """
        for record_id in list(self._pinned) if record_ids is None else record_ids:
            self._pinned.pop(record_id, None)
        for wanted in self._fetching:
            wanted.difference_update(list(wanted) if record_ids is None else record_ids)


class GivenKeys:
    """The keys that somebody gave, and no way to more."""

    def __init__(self, given: Mapping[RecordId, KeyAnswer]) -> None:
        self._given = given

    def key_of(self, record_id: RecordId) -> KeyAnswer | None:
        """Give the key of a record, why there is none, or None where it was not given."""
        return self._given.get(record_id)

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load nothing."""


async def with_keys(
    codec: RowCodec,
    work: Callable[[], Awaitable[T]],
    *,
    likely: Callable[[], Iterable[RecordId]] = tuple,
) -> T:
    """Do work on rows, again from its start while it lacks keys; give what it gives.

    `likely` names the records whose keys the work may want beside those that it missed. Raises
    `LogUnavailable`, and `KeysNotHeld` where keys cannot be had.
    """
    for _ in range(TRIES_MAX):
        try:
            return await work()
        except KeysNotHeld as missing:
            await codec.fetch(missing.record_ids.union(likely()))
    return await work()


async def read_rows(store: Readable, read: Callable[[ReadTables], T]) -> T:
    """Read from one snapshot, with the keys that it takes. Raises as `with_keys`."""

    async def work() -> T:
        with store.snapshot() as tables:
            return read(tables)

    return await with_keys(store.codec, work)


async def read_long(store: Readable, read: Callable[[ReadTables], T]) -> T:
    """Read as `read_rows` what may take long: in a thread, so that nothing else waits for it."""

    def once() -> T:
        with store.snapshot() as tables:
            return read(tables)

    return await in_thread(once, store.codec)


async def in_thread(
    work: Callable[[], T], *codecs: RowCodec, executor: Executor | None = None
) -> T:
    """Do work on rows in a thread, which waits for the keys that it lacks; give what it gives.

    Raises `LogUnavailable`, and `KeysNotHeld` where keys cannot be had.
    """
    loop = asyncio.get_running_loop()
    loading = [_Loading(codec, loop) for codec in codecs]

    def waiting() -> T:
        with ExitStack() as stack:
            for codec, load in zip(codecs, loading, strict=True):
                stack.enter_context(codec.waiting(load.load))
            return work()

    try:
        return await loop.run_in_executor(executor or _threads(), waiting)
    finally:
        for one in loading:
            one.end()


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads of our own: what loads the keys that all of these wait for may take one of others."""
    return ThreadPoolExecutor(THREADS_MAX, "rows")


class _Loading:
    """Loads keys in the loop for a thread, until the loop does not wait for the thread any more."""

    def __init__(self, codec: RowCodec, loop: asyncio.AbstractEventLoop) -> None:
        self._codec = codec
        self._loop = loop
        self._lock = Lock()
        self._asked: Future[None] | None = None
        self._is_over = False

    def load(self, record_ids: frozenset[RecordId]) -> None:
        """Load keys, called in the thread. Raises `LogUnavailable`, or `KeysNotHeld` at the end."""
        with self._lock:
            if self._is_over:
                raise KeysNotHeld(record_ids)
            asked = asyncio.run_coroutine_threadsafe(self._codec.fetch(record_ids), self._loop)
            self._asked = asked
        try:
            asked.result(timeout=LOAD_SECONDS_MAX)
        except CancelledError:
            raise KeysNotHeld(record_ids) from None
        except TimeoutError:
            asked.cancel()
            raise LogUnavailable("keys were asked for, and did not come in time") from None

    def end(self) -> None:
        """Load no more: a thread that is left behind must not wait for a loop that waits for it."""
        with self._lock:
            self._is_over = True
            if self._asked is not None:
                self._asked.cancel()
