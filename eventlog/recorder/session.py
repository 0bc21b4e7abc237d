"""A connection to NATS on a loop of its own, and the way into it for the library's threads.

A factory opens one for all its recorders and subscriptions. Calls have the deadline of the settings
and raise the library's errors.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any, TypeVar

from nats.errors import Error as NatsError

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi
from eventlog.recorder.errors import OutcomeUnknown, RecorderClosed, library_errors
from eventlog.recorder.loop import LoopEnded, LoopThread, Work
from eventlog.recorder.settings import Settings

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""The deadline is kept by the work itself; this is for a loop that does not get to it."""


class Session:
    """Share one connection among the recorders of a factory."""

    def __init__(self, settings: Settings) -> None:
        self.timeout_seconds = settings.timeout_seconds
        name = f"koseki-recorder {settings.workspace or settings.application}"
        self._loop = LoopThread(name)

        async def connect() -> JetStreamApi:
            try:
                connection = await Connection.open(
                    settings.servers,
                    name=name,
                    timeout_seconds=settings.timeout_seconds,
                    options=_options(settings),
                )
            except (NatsError, OSError) as error:
                raise LogUnavailable(f"no connection to NATS: {error}") from error
            self._loop.at_end(connection.close)
            return JetStreamApi(connection)

        try:
            self.api = self.call(connect)
        except BaseException:
            self.close()
            raise

    def call(self, work: Work[T]) -> T:
        """Run work on the loop, with the deadline of the settings, and wait for its result."""

        async def in_time() -> T:
            async with asyncio.timeout(self.timeout_seconds):
                return await work()

        future = self.start(in_time)
        try:
            with library_errors():
                return self._wait(future)
        except LoopEnded:
            raise RecorderClosed from None

    def settle(self, work: Work[T]) -> T:
        """Run a write, which keeps the deadline itself, and wait for its result."""
        future = self.start(work)
        with library_errors():
            try:
                return self._wait(future)
            except (LoopEnded, TimeoutError):
                raise OutcomeUnknown("the recorder ended before the log's answer") from None

    def start(self, work: Work[T]) -> Future[T]:
        """Run work on the loop without waiting."""
        try:
            return self._loop.start(work)
        except LoopEnded:
            raise RecorderClosed from None

    def at_end(self, work: Work[None]) -> None:
        """Run this before the connection is closed."""
        self._loop.at_end(work)

    def close(self) -> None:
        """End what is running, the connection and the thread."""
        self._loop.close()

    def _wait(self, future: Future[T]) -> T:
        return self._loop.wait(future, timeout_seconds=self.timeout_seconds + GRACE_SECONDS)


def _options(settings: Settings) -> dict[str, Any]:  # Any: options of nats-py's `connect`
    return {"user_credentials": settings.credentials} if settings.credentials else {}
