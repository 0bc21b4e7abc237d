"""What `koseki up --clock manual=START` and `koseki clock` do to a workspace's clock (R15)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from actors.clock import SystemClock
from actors.clock_turning import ClockNotTurned, begin_manual_clock, turn_manual_clock
from actors.intake.segment_spec import parse_time
from actors.log_clock import LogClock
from app.bootstrap import open_connection, open_log
from app.integrity import guarded
from app.settings import Settings, read_json
from app.status import running_settings
from domain.errors import Invalid

MANUAL = "manual="
KNOWN_SECONDS_MAX = 30.0
LOOK_EVERY_SECONDS = 0.05


def manual_start(option: str) -> datetime | None:
    """Read `system`, or `manual=` and a time of RFC 3339. Raises `ClockNotTurned`."""
    if option == "system":
        return None
    if not option.startswith(MANUAL):
        raise ClockNotTurned("a clock is system, or manual= and a time of RFC 3339")
    return read_time(option.removeprefix(MANUAL))


def read_time(text: str) -> datetime:
    """Read a time of RFC 3339. Raises `ClockNotTurned`."""
    try:
        return parse_time(text)
    except Invalid as error:
        raise ClockNotTurned(error.message) from error


async def begin_clock(settings: Settings) -> None:
    """Give a new workspace the clock that was asked for. Raises `ClockNotTurned` or `LogError`."""
    start = manual_start(settings.clock)
    if start is None:
        return
    if settings.nats_cluster is not None:
        raise ClockNotTurned("a manual clock is for development: leave out --nats")
    connection = await open_connection(settings, "clock", role="host")
    try:
        log = await open_log(connection, settings)
        async with guarded(connection, log, settings) as guard:
            if guard.is_sound:
                await begin_manual_clock(log, start, clock=SystemClock())
        await log.close()
    finally:
        await connection.close()


async def advance(settings: Settings, to: datetime) -> dict[str, Any]:
    """Turn the manual clock on, and wait until every process that dates events knows.

    Raises `NotRunning`, `ClockNotTurned` or `LogError`.
    """
    settings = running_settings(settings)
    connection = await open_connection(settings, "clock", role="host")
    try:
        log = await open_log(connection, settings)
        async with guarded(connection, log, settings):
            revision = await turn_manual_clock(log, to, clock=SystemClock())
    finally:
        await connection.close()
    await _until_known(settings, to)
    return {"clock": to.isoformat(), "revision": revision}


async def show(settings: Settings) -> dict[str, Any]:
    """Say what time it is for the log. Raises `NotRunning` or `LogError`."""
    settings = running_settings(settings)
    connection = await open_connection(settings, "clock", role="host")
    try:
        clock = LogClock(await open_log(connection, settings), SystemClock())
        await clock.start()
        await clock.close()
    finally:
        await connection.close()
    mode = "manual" if clock.is_manual else "system"
    return {"clock": clock.recorded_now().isoformat(), "mode": mode}


async def _until_known(settings: Settings, to: datetime) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + KNOWN_SECONDS_MAX
    while loop.time() < deadline:
        if _is_known(settings, to):
            return
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    raise ClockNotTurned("the clock was turned, but not every process knows it yet")


def _is_known(settings: Settings, to: datetime) -> bool:
    """Whether every process says that it is this late; one that starts reads the clock first."""
    clocks = [p["clock"] for p in read_json(settings.processes_file).values() if "clock" in p]
    return bool(clocks) and all(datetime.fromisoformat(clock) >= to for clock in clocks)
