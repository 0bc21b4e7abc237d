"""The log's clock: what is decided is recorded at it, and it never goes back (R15)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from actors.clock import SystemClock
from actors.clock_turning import (
    ClockNotTurned,
    begin_manual_clock,
    let_time_pass,
    turn_manual_clock,
)
from actors.log_clock import LogClock
from eventlog.memory import MemoryEventLog
from tests.actors.house import CLOCK, HandClock
from tests.support.events import draft, new_record, store
from tests.support.waiting import until

START = datetime(2024, 2, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


async def opened(log: MemoryEventLog) -> LogClock:
    clock = LogClock(log, SystemClock())
    await clock.start()
    return clock


async def recorded_at(log: MemoryEventLog) -> list[datetime]:
    return [
        entry.event.recorded_at
        async for entries in log.read()
        for entry in entries
        if entry.event is not None
    ]


async def test_a_process_whose_clock_is_behind_stamps_the_logs_time() -> None:
    log = MemoryEventLog("test")
    ahead = datetime.now(UTC) + timedelta(seconds=1.5)
    await store(log, draft(new_record(), recorded_at=ahead))
    clock = await opened(log)
    assert clock.recorded_now() == ahead
    assert clock.now() < ahead
    await clock.close()


async def test_the_time_of_a_log_that_is_behind_is_the_machines() -> None:
    log = MemoryEventLog("test")
    await store(log, draft(new_record(), recorded_at=START))
    clock = await opened(log)
    assert abs(clock.recorded_now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.arrival(START) == START
    await clock.close()


async def test_a_manual_clock_is_the_only_one() -> None:
    log = MemoryEventLog("test")
    await begin_manual_clock(log, START, clock=CLOCK)
    clock = await opened(log)
    assert clock.is_manual
    assert clock.recorded_now() == START
    assert clock.arrival(datetime.now(UTC)) == START
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    await turn_manual_clock(log, START + MONTH, clock=CLOCK)
    await until(lambda: clock.recorded_now() == START + MONTH)
    assert await recorded_at(log) == [START, START + MONTH]
    await clock.close()


async def test_a_manual_clock_goes_on_after_a_restart_where_it_stood() -> None:
    log = MemoryEventLog("test")
    await begin_manual_clock(log, START, clock=CLOCK)
    await turn_manual_clock(log, START + MONTH, clock=CLOCK)
    await begin_manual_clock(log, START, clock=CLOCK)
    clock = await opened(log)
    assert (clock.is_manual, clock.recorded_now()) == (True, START + MONTH)
    await clock.close()


async def test_a_manual_clock_cannot_go_back_but_may_be_told_the_same_again() -> None:
    log = MemoryEventLog("test")
    await begin_manual_clock(log, START, clock=CLOCK)
    revision = await turn_manual_clock(log, START + MONTH, clock=CLOCK)
    assert await turn_manual_clock(log, START + MONTH, clock=CLOCK) == revision
    with pytest.raises(ClockNotTurned, match="later time"):
        await turn_manual_clock(log, START, clock=CLOCK)


async def test_only_a_new_workspace_can_have_a_manual_clock() -> None:
    log = MemoryEventLog("test")
    await store(log, draft(new_record()))
    with pytest.raises(ClockNotTurned, match="new workspace"):
        await begin_manual_clock(log, START, clock=CLOCK)
    with pytest.raises(ClockNotTurned):
        await turn_manual_clock(log, START, clock=CLOCK)


async def test_time_passes_once_however_many_stewards_there_are() -> None:
    log = MemoryEventLog("test")
    clock = HandClock()
    due = clock.now() - timedelta(seconds=1)
    turned = await asyncio.gather(*(let_time_pass(log, due, clock=clock) for _ in range(5)))
    assert sum(turned) == 1
    assert len(await recorded_at(log)) == 1
    assert not await let_time_pass(log, due, clock=clock)


async def test_time_does_not_pass_before_it_is_due() -> None:
    log = MemoryEventLog("test")
    clock = HandClock()
    due = clock.now() + timedelta(hours=1)
    assert not await let_time_pass(log, due, clock=clock)
    clock.ahead = timedelta(hours=2)
    assert await let_time_pass(log, due, clock=clock)
    [moved] = await recorded_at(log)
    assert moved >= due


async def test_a_steward_leaves_a_manual_clock_alone() -> None:
    log = MemoryEventLog("test")
    await begin_manual_clock(log, START, clock=CLOCK)
    assert not await let_time_pass(log, START + MONTH, clock=CLOCK)
    assert await recorded_at(log) == [START]
