"""A subscription to a stream: its events from a place on, then new ones as they are recorded.

A task on the session's loop follows the stream and waits while its reader is behind; the reader's
thread takes what is there and blocks when nothing is. Events of one append are handed on together,
once the last of them was seen, so that no reader moves past what a crash could take back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from threading import Condition, Event

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

from eventlog.jetstream_api import JetStreamApi
from eventlog.port import Entry
from eventlog.recorder.errors import library_errors
from eventlog.recorder.history import RawEntry, RawIncoming
from eventlog.recorder.session import Session
from eventlog.subjects import Subjects
from eventlog.tail import Tail

WAITING_MAX = 2_000
"""Notifications that may wait for their reader before the stream is read on."""

READ_EVENTS_MAX = 500
END_SECONDS_MAX = 10.0

ToNotification = Callable[[RawEntry], Notification]


class _Feed:
    """Notifications on their way from the loop's thread to the reader's."""

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = frozenset(topics)
        self._changed = Condition()
        self._waiting: deque[Notification] = deque()
        self._is_stopped = False
        self._error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self.has_ended = Event()

    async def fill(
        self, notifications: Callable[[], AsyncGenerator[list[Notification], None]]
    ) -> None:
        """Hand on what is read, until the reader is let go or reading fails."""
        with self._changed:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            may_read = not self._is_stopped
        try:
            with library_errors():
                if may_read:
                    await self._fill(notifications())
        except Exception as error:  # noqa: BLE001  # whatever it is, the reader raises it
            self._error = error
        finally:
            self._let_go()
            self._loop = self._task = None  # a task that holds itself waits for the collector
            self.has_ended.set()

    def take(self) -> Notification | None:
        """Wait for a notification; None, or the error of the reading, when there are no more."""
        with self._changed:
            while not self._waiting and not self._is_stopped:
                self._changed.wait()
            if self._is_stopped and self._error is None:
                return None
            if not self._waiting and self._error is not None:
                raise self._error
            notification = self._waiting.popleft()
            has_room = len(self._waiting) == WAITING_MAX // 2
        if has_room:
            self._on_loop(self._room.set)
        return notification

    def stop(self) -> None:
        """Let the reader go, at once, and read no more."""
        self._let_go()
        task = self._task
        if task is not None:
            self._on_loop(task.cancel)

    async def _fill(self, batches: AsyncGenerator[list[Notification], None]) -> None:
        async with aclosing(batches):
            async for notifications in batches:
                self._put(notifications)
                self._room.clear()
                if len(self._waiting) > WAITING_MAX:
                    await self._room.wait()

    def _let_go(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _put(self, notifications: list[Notification]) -> None:
        with self._changed:
            self._waiting += [
                item for item in notifications if not self._topics or item.topic in self._topics
            ]
            self._changed.notify_all()

    def _on_loop(self, work: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it the reading
                loop.call_soon_threadsafe(work)


class JetStreamSubscription(Subscription[ApplicationRecorder]):
    """Iterate over the notifications of a stream, for ever or until it is stopped."""

    def __init__(
        self,
        recorder: ApplicationRecorder,
        gt: int | None = None,
        topics: Sequence[str] = (),
        *,
        session: Session,
        subjects: Subjects,
        to_notification: ToNotification,
    ) -> None:
        super().__init__(recorder, gt, topics)
        feed = _Feed(topics)
        self._feed = feed
        api, after = session.api, max(gt or 0, 0)
        # The task holds the feed and not this, so that being dropped stops it.
        session.start(
            lambda: feed.fill(lambda: _notifications(api, subjects, to_notification, after=after))
        )

    def stop(self) -> None:
        """Stop the iteration, from any thread."""
        super().stop()
        self._feed.stop()

    def __exit__(self, *args: object, **kwargs: object) -> None:
        super().__exit__(*args, **kwargs)
        self._feed.has_ended.wait(END_SECONDS_MAX)

    def __next__(self) -> Notification:
        """Wait for the next notification."""
        notification = self._feed.take()
        if notification is None:
            raise StopIteration
        return notification

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was not made to its end
            self.stop()


async def _notifications(
    api: JetStreamApi, subjects: Subjects, to_notification: ToNotification, *, after: int
) -> AsyncGenerator[list[Notification], None]:
    tail = Tail(api, subjects, RawIncoming(subjects))
    batches = tail.follow(after_revision=after, batch_events_max=READ_EVENTS_MAX)
    held: list[Entry] = []
    async with aclosing(batches):
        async for entries in batches:
            held += entries
            whole = max((i for i, entry in enumerate(held, 1) if entry.ends_append), default=0)
            if whole:
                yield [to_notification(e) for e in held[:whole] if isinstance(e, RawEntry)]
                held = held[whole:]
