"""Deadlines that share timers: each waiter is called once, in time, unless it was removed."""

from __future__ import annotations

import asyncio

from eventlog.deadlines import Deadlines
from tests.support.waiting import until


async def test_each_waiter_is_called_once_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    called: dict[float, float] = {}
    deadlines = Deadlines[float](lambda due: called.update({due: loop.time()}))
    due = [loop.time() + number / 500 for number in range(50)]
    for time in due:
        deadlines.add(time, time)
    await until(lambda: len(called) == len(due))
    assert all(called[time] >= time - 0.001 for time in due)


async def test_a_waiter_that_was_removed_is_not_called() -> None:
    loop = asyncio.get_running_loop()
    called: list[str] = []
    deadlines = Deadlines[str](called.append)
    soon = loop.time() + 0.02
    ticket = deadlines.add("gone", soon)
    deadlines.add("there", soon)
    deadlines.remove("gone", ticket)
    deadlines.remove("never added", 7)
    await until(lambda: bool(called))
    assert called == ["there"]
