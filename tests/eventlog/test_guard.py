"""The guard: what contradicts the log closes it for good; a new connection is compared first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventlog.connection import Connection
from eventlog.errors import ClockDiffers, LogDamaged, LogUnavailable
from eventlog.guard import LogGuard
from eventlog.jetstream import JetStreamEventLog
from eventlog.marks import Mark, read_marks
from eventlog.memory import MemoryEventLog
from eventlog.port import Head, Refused, Witness
from tests.support.events import attempt, draft, new_record, store


async def written(events: int = 5) -> tuple[MemoryEventLog, list[Head]]:
    log = MemoryEventLog("demo")
    heads: list[Head] = []
    for _ in range(events):
        heads += (await store(log, draft(new_record()))).heads.values()
    return log, heads


def says(*heads: Head, source: str = "read_side") -> list[Witness]:
    return [Witness(source, head.revision, head.digest) for head in heads]


async def test_a_log_that_agrees_with_every_witness_is_open() -> None:
    log, heads = await written()
    guard = LogGuard(log, witnesses=lambda: says(Head(), *heads))
    await guard.start()
    assert guard.is_sound
    assert await guard.admit() == 0
    await guard.close()


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (Head(9, 1, bytes(32)), "read_side_events_lost"),
        (Head(3, 1, bytes(32)), "read_side_event_replaced"),
    ],
)
async def test_a_witness_that_contradicts_the_log_closes_it_for_good(
    head: Head, fault: str
) -> None:
    log, _ = await written()
    told = says(head)
    guard = LogGuard(log, witnesses=lambda: told)
    await guard.check()
    assert guard.status() == {"log_sound": False, "log_faults": [fault], "clock_agrees": True}
    told.clear()
    await guard.check()
    with pytest.raises(LogDamaged):
        await guard.admit()


async def test_what_cannot_be_compared_closes_the_log_too() -> None:
    log, _ = await written()

    def spoilt() -> list[Witness]:
        raise LogDamaged("a mark cannot be read")

    guard = LogGuard(log, witnesses=spoilt)
    await guard.check()
    assert guard.faults == ("unreadable",)


async def test_a_new_connection_is_compared_before_it_is_given() -> None:
    log, heads = await written()
    connection = 1
    guard = LogGuard(log, witnesses=lambda: says(*heads), connection=lambda: connection)
    assert await guard.admit() == 1
    log.is_available = False
    assert await guard.admit() == 1
    connection = 2
    with pytest.raises(LogUnavailable):
        await guard.admit()
    log.is_available = True
    assert await guard.admit() == 2
    del log._rows[-1]
    assert await guard.admit() == 2
    connection = 3
    with pytest.raises(LogDamaged):
        await guard.admit()


async def test_however_many_wait_for_a_new_connection_it_is_compared_once() -> None:
    log, heads = await written()
    asked = 0

    def witnesses() -> list[Witness]:
        nonlocal asked
        asked += 1
        return says(*heads)

    guard = LogGuard(log, witnesses=witnesses)
    assert await asyncio.gather(*(guard.admit() for _ in range(50))) == [0] * 50
    assert asked == 1


async def test_what_one_process_acknowledged_another_one_misses(tmp_path: Path) -> None:
    log, heads = await written()
    guard = LogGuard(log, mark=Mark.open(tmp_path))
    guard.note(heads[-1])
    await guard.close()
    del log._rows[-1]
    other = LogGuard(log, witnesses=lambda: read_marks(tmp_path))
    await other.check()
    assert other.faults == ("acknowledged_events_lost",)


class HandClock:
    """A clock that the test sets beside the server's."""

    def __init__(self) -> None:
        self.ahead: timedelta | None = timedelta()

    def __call__(self) -> datetime | None:
        return None if self.ahead is None else datetime.now(UTC) + self.ahead


@pytest.mark.parametrize("seconds", [-3, 3])
async def test_a_process_with_another_time_than_the_server_stores_nothing_until_they_agree(
    jetstream_log: JetStreamEventLog, connection: Connection, seconds: int
) -> None:
    guard, clock = LogGuard(jetstream_log, connection=lambda: connection.losses), HandClock()
    guard.own_clock = clock
    jetstream_log.guard_by(guard)
    await guard.check()
    await store(jetstream_log, draft(new_record()))
    clock.ahead = timedelta(seconds=seconds)
    await guard.check()
    assert (guard.is_sound, guard.status()["clock_agrees"]) == (True, False)
    with pytest.raises(ClockDiffers):
        await guard.admit()
    async with asyncio.timeout(5):
        refused = await jetstream_log.append(attempt(draft(new_record())), timeout_seconds=60)
    assert refused == Refused("CLOCK_DIFFERS")
    clock.ahead = timedelta(seconds=seconds / 3)
    await guard.check()
    await store(jetstream_log, draft(new_record()))
    await guard.close()


async def test_a_clock_that_is_turned_by_hand_is_compared_with_nothing(
    jetstream_log: JetStreamEventLog,
) -> None:
    guard, clock = LogGuard(jetstream_log), HandClock()
    guard.own_clock = clock
    clock.ahead = timedelta(days=1)
    await guard.check()
    assert not guard.has_right_time
    clock.ahead = None
    await guard.check()
    assert guard.has_right_time
