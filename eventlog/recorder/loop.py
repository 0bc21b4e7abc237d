"""An asyncio loop in a thread of its own, which threads without a loop call into.

It ends when it is closed, when nobody holds it any more, or with the interpreter; in each case its
work is cancelled and what was handed to `at_end` is run before the thread is gone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, T]]  # Any: what a coroutine is sent and yields
END_SECONDS_MAX = 10.0


class LoopEnded(RuntimeError):
    """The loop was closed before the work was done."""


class _Running:
    """What the thread works on. It does not hold the `LoopThread`, which may be dropped."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.lock = Lock()
        self.is_ended = False
        self.tasks: set[asyncio.Task[Any] | None] = set()
        self.at_end: list[Work[None]] = []

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.wind_up())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def submit(self, work: Work[T]) -> concurrent.futures.Future[T]:
        with self.lock:
            if self.is_ended:
                raise LoopEnded
            return asyncio.run_coroutine_threadsafe(self.track(work), self.loop)

    async def track(self, work: Work[T]) -> T:
        # No name for the task in here: cancelled, it would hold itself by way of this frame.
        self.tasks.add(asyncio.current_task())
        try:
            return await work()
        finally:
            self.tasks.discard(asyncio.current_task())

    async def wind_up(self) -> None:
        await asyncio.sleep(0)  # so that what was submitted last has begun
        await _cancel(self.tasks)
        for work in reversed(self.at_end):
            with suppress(Exception):  # the thread ends, however what it held can be let go
                async with asyncio.timeout(END_SECONDS_MAX):
                    await work()
        others: set[asyncio.Task[Any] | None] = {*asyncio.all_tasks()}
        await _cancel(others - {asyncio.current_task()})

    def end(self, thread: Thread) -> None:
        with self.lock:
            if self.is_ended:
                return
            self.is_ended = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        if thread is not current_thread():  # the collector may drop the last reference in there
            thread.join(END_SECONDS_MAX * 2)


class LoopThread:
    """Run coroutines for threads that wait for them."""

    def __init__(self, name: str) -> None:
        self._running = _Running()
        self._thread = Thread(target=self._running.run, name=name, daemon=True)
        self._thread.start()
        self._end = weakref.finalize(self, self._running.end, self._thread)

    def start(self, work: Work[T]) -> concurrent.futures.Future[T]:
        """Run work on the loop without waiting; `LoopEnded` if it was closed."""
        return self._running.submit(work)

    def wait(self, future: concurrent.futures.Future[T], *, timeout_seconds: float) -> T:
        """Wait for what was started, and cancel it with `TimeoutError` if it takes too long.

        `LoopEnded` where the loop was closed meanwhile.
        """
        assert current_thread() is not self._thread, "the loop's own thread cannot wait for it"
        try:
            return future.result(timeout_seconds)
        except concurrent.futures.CancelledError:
            raise LoopEnded from None
        finally:
            future.cancel()

    def at_end(self, work: Work[None]) -> None:
        """Run this when the loop ends, the last one first; it must not hold this object."""
        self._running.at_end.append(work)

    def close(self) -> None:
        """Cancel what is running, and end the thread."""
        self._end()


async def _cancel(tasks: set[asyncio.Task[Any] | None]) -> None:  # Any: of any result
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
