"""Streams of requests and answers: how much is in flight on one, and how it comes to an end.

Nothing is read while as much as may be is in flight, and an answer counts as in flight until the
transport has taken it: a slow caller is held up by the transport and fills no queue here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from domain.errors import DomainError, Kind

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """What the streams of one process may take up. Times in seconds.

    A stream on which nothing comes for `idle_seconds` while nothing is in flight is ended; so is
    one whose caller does not take an answer for `stalled_seconds`.
    """

    streams_max: int = 100
    requests_in_flight_max: int = 16
    idle_seconds: float = 300.0
    stalled_seconds: float = 60.0


class ExchangeEnded(DomainError):
    """The stream ends here: what was not answered is to be sent again on another one."""

    kind = Kind.UNAVAILABLE


class Exchanges:
    """The streams of one process."""

    def __init__(self, limits: ExchangeLimits) -> None:
        self._limits = limits
        self._open = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more requests; each stream ends when what it has in flight is answered."""
        self._stopping.set()

    async def follow(
        self, requests: AsyncIterator[Request], answer: Callable[[Request], Awaitable[Response]]
    ) -> AsyncGenerator[Response, None]:
        """Yield what `answer` gives for each request as soon as it is there, in any order.

        When what is in flight is answered, raises `ExchangeEnded` or what `requests` raised. An
        `answer` that raises ends the stream at once.
        """
        if self._open >= self._limits.streams_max:
            raise ExchangeEnded("TOO_MANY_STREAMS", "as many streams as may be are open: try later")
        self._open += 1
        exchange = _Exchange(requests, answer, limits=self._limits, stopping=self._stopping)
        try:
            while not exchange.is_over:
                for response in await exchange.next_answers():
                    yield response
        finally:
            self._open -= 1
            await exchange.close()
        if exchange.fault is not None:
            raise exchange.fault


class _Exchange(Generic[Request, Response]):
    """One stream. Nothing happens between two calls of `next_answers` but what is under way."""

    def __init__(
        self,
        requests: AsyncIterator[Request],
        answer: Callable[[Request], Awaitable[Response]],
        *,
        limits: ExchangeLimits,
        stopping: asyncio.Event,
    ) -> None:
        self._requests = requests
        self._answer = answer
        self._limits = limits
        self._stopping = asyncio.create_task(stopping.wait())
        self._reading: asyncio.Task[Request | None] | None = None
        self._under_way: set[asyncio.Task[Response]] = set()
        self._is_read_on = True
        self.fault: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is read any more, and all that was read is answered."""
        return not self._is_read_on and not self._under_way

    async def next_answers(self) -> list[Response]:
        """Wait for a request or an answer, whichever comes first; give the answers that came."""
        waited: set[asyncio.Task[object]] = {*self._under_way}
        if self._is_read_on and len(self._under_way) < self._limits.requests_in_flight_max:
            self._reading = self._reading or asyncio.create_task(self._read())
            waited |= {self._reading, self._stopping}
        seconds = None if self._under_way else self._limits.idle_seconds
        done, _ = await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._end(ExchangeEnded("STREAM_IDLE", "nothing came for too long"))
        elif self._stopping in done:
            self._end(ExchangeEnded("SERVER_STOPPING", "this server takes no more requests"))
        elif self._reading in done:
            self._begin(self._reading)
        answered = [task for task in self._under_way if task in done]
        self._under_way.difference_update(answered)
        return [task.result() for task in answered]

    async def close(self) -> None:
        """Let go of what is under way: of none of it was anything said."""
        left = [task for task in (self._reading, self._stopping, *self._under_way) if task]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _read(self) -> Request | None:
        return await anext(self._requests, None)

    def _begin(self, reading: asyncio.Task[Request | None]) -> None:
        self._reading = None
        fault = reading.exception()
        request = reading.result() if fault is None else None
        if request is None:
            self._end(fault)
        else:
            self._under_way.add(asyncio.ensure_future(self._answer(request)))

    def _end(self, fault: BaseException | None) -> None:
        self._is_read_on = False
        self.fault = fault
