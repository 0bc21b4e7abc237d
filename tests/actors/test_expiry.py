"""An agreement ends by the clock, with no event: by the later of the machine's and the log's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from actors.clock import SystemClock
from actors.log_clock import LogClock
from domain.signal_events import SignalsRecorded
from eventlog.memory import MemoryEventLog
from tests.actors.house import HandClock, Workspace, consent, track, user, workspace

A = user("a")
MINUTES = timedelta(minutes=10)


async def agree(house: Workspace) -> int:
    """Agree for ten minutes; give how many events there are then."""
    await house.done(consent("given", A, valid_until=datetime.now(UTC) + MINUTES))
    assert await house.is_open(A)
    return len(await house.events())


async def test_it_ends_by_the_machines_clock() -> None:
    clock = HandClock()
    async with workspace(clock=clock) as house:
        before = await agree(house)
        clock.ahead = MINUTES
        assert not await house.is_open(A, seconds=3_600.0)
        assert len(await house.events()) == before


async def test_it_ends_by_the_logs_clock_though_the_machines_is_behind() -> None:
    log = MemoryEventLog("test")
    clock = LogClock(log, SystemClock())
    async with workspace(log=log, clock=clock) as house:
        before = await agree(house)
        clock.note(datetime.now(UTC) + MINUTES)
        verdict = (await house.done(track("m1", A, source="ads"))).signals
        assert [*verdict] == ["declined"]
        assert not await house.is_open(A)
        assert len(await house.events()) == before + 1
        assert not any(isinstance(e.body, SignalsRecorded) for e in await house.events())


async def test_a_host_learns_the_logs_clock_from_what_it_wakes() -> None:
    log = MemoryEventLog("test")
    ahead = HandClock()
    ahead.ahead = MINUTES
    async with workspace(log=log, clock=ahead) as others:
        await others.done(consent("given", A, seconds=3_600.0))
    late = LogClock(log, SystemClock())
    house = Workspace(log, clock=late)
    await house.start()
    try:
        assert await house.is_open(A)
        assert late.recorded_now() >= datetime.now(UTC) + MINUTES - timedelta(minutes=1)
    finally:
        await house.close()
