"""The steward sees to every duty again and again, and no duty's fault stops another."""

from __future__ import annotations

import asyncio

from actors.steward import Duty, Steward
from eventlog.errors import LogUnavailable
from tests.support.waiting import until


async def test_a_failing_duty_is_tried_again_and_stops_no_other() -> None:
    seen: list[str] = []

    async def fail() -> None:
        seen.append("failed")
        raise LogUnavailable("away")

    async def stumble() -> None:
        raise KeyError("a fault of its own")

    async def do() -> None:
        seen.append("done")

    steward = Steward([Duty("fail", 0.01, fail), Duty("stumble", 0.01, stumble), Duty("do", 0, do)])
    running = asyncio.create_task(steward.run())
    await until(lambda: seen.count("failed") >= 2 and seen.count("done") >= 10)
    status = steward.status()
    assert status["fail"]["done"] == 0
    assert status["fail"]["failed"] >= 2
    assert status["stumble"]["failed"] >= 1
    assert status["do"]["done"] >= 10
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
