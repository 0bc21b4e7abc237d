"""`Exchanges`: what is in flight on one stream has a limit, and nothing is read beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from services.exchanges import ExchangeLimits, Exchanges
from tests.support.waiting import until


class Caller:
    """Sends numbers without end, and is answered when `gate` is set."""

    def __init__(self) -> None:
        self.read = 0
        self.begun = 0
        self.answered = 0
        self.gate = asyncio.Event()

    async def requests(self, number: int) -> AsyncIterator[int]:
        for request in range(number):
            self.read += 1
            yield request

    async def answer(self, request: int) -> int:
        self.begun += 1
        await self.gate.wait()
        self.answered += 1
        return request


def followed(caller: Caller, number: int, **limits: Any) -> Any:
    """Follow what a caller sends."""
    exchanges = Exchanges(ExchangeLimits(**limits))
    return aclosing(exchanges.follow(caller.requests(number), caller.answer))


async def test_no_more_than_the_limit_is_in_flight() -> None:
    caller = Caller()
    async with followed(caller, 100, requests_in_flight_max=4) as answers:
        first = asyncio.create_task(anext(answers))
        await until(lambda: caller.begun == 4)
        for _ in range(20):  # whatever else it would do, it would do now
            await asyncio.sleep(0)
        assert (caller.read, caller.begun) == (4, 4)
        caller.gate.set()
        seen = {await first, *[answer async for answer in answers]}
    assert seen == {*range(100)}


async def test_answers_that_are_not_taken_count_as_in_flight() -> None:
    caller = Caller()
    caller.gate.set()
    async with followed(caller, 100, requests_in_flight_max=4) as answers:
        await anext(answers)
        for _ in range(20):
            await asyncio.sleep(0)
        assert caller.answered <= 4
        assert len([answer async for answer in answers]) == 99


async def test_what_a_caller_sent_before_it_failed_is_still_answered() -> None:
    caller = Caller()
    caller.gate.set()

    async def broken() -> AsyncIterator[int]:
        for request in range(3):
            yield request
        raise LookupError

    async with aclosing(Exchanges(ExchangeLimits()).follow(broken(), caller.answer)) as answers:
        assert {await anext(answers) for _ in range(3)} == {0, 1, 2}
        with pytest.raises(LookupError):
            await anext(answers)


async def test_what_is_under_way_is_cancelled_with_the_stream() -> None:
    caller = Caller()
    async with followed(caller, 100) as answers:
        first = asyncio.create_task(anext(answers))
        await until(lambda: caller.begun > 0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    caller.gate.set()
    await asyncio.sleep(0)
    assert caller.answered == 0
