"""Group commit of what may wait: it gathers, rests, and is let go before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from eventlog.commit import GroupCommit
from eventlog.commit_queue import (
    CROWD_EVENTS_MIN,
    FLIGHTS_MAX,
    GATHER_SECONDS,
    GATHERED_EVENTS_MAX,
    RESTS_PER_FLIGHT,
)
from eventlog.port import Stored
from tests.eventlog.committing import WatchedLog, patient, send, singles
from tests.support.waiting import until


async def test_what_may_wait_gathers_and_goes_out_before_long(
    log: WatchedLog, commit: GroupCommit
) -> None:
    first = patient(commit, *singles(3))
    await asyncio.sleep(0.001)
    assert log.sizes == []
    outcomes = await asyncio.gather(*first, *patient(commit, *singles(2)))
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert log.sizes == [5]


@pytest.mark.parametrize("let_go", [GroupCommit.hurry, GroupCommit.end_gathering])
async def test_what_may_wait_is_let_go_before_its_time(
    log: WatchedLog,
    commit: GroupCommit,
    monkeypatch: pytest.MonkeyPatch,
    let_go: Callable[[GroupCommit], None],
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.GATHER_SECONDS", 60.0)
    let_go(commit)  # nobody waits: nothing happens
    sent = patient(commit, *singles(3))
    await asyncio.sleep(0.001)
    assert log.sizes == []
    let_go(commit)
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [3]


async def flown(log: WatchedLog, commit: GroupCommit, seconds: float) -> None:
    """Have a batch of what may wait on its way for so long."""
    log.gate.clear()
    sent = patient(commit, *singles(1))
    await asyncio.sleep(0)
    commit.end_gathering()
    await until(lambda: log.sizes == [1])
    await asyncio.sleep(seconds)
    log.gate.set()
    await asyncio.gather(*sent)


async def test_a_small_batch_of_what_may_wait_rests_after_the_one_before(
    log: WatchedLog, commit: GroupCommit
) -> None:
    loop = asyncio.get_running_loop()
    commit.give_way()
    await flown(log, commit, 0.02)
    landed = loop.time()
    sent = patient(commit, *singles(2))
    await asyncio.sleep(0)
    commit.end_gathering()
    urgent = send(commit, *singles(1))
    await asyncio.gather(*urgent)
    assert log.sizes == [1, 1]
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert loop.time() - landed >= RESTS_PER_FLIGHT * 0.02
    assert log.sizes == [1, 1, 2]


@pytest.mark.parametrize("gave_way", [False, True])
async def test_it_rests_only_for_a_while_after_somebody_came_who_does_not_wait(
    log: WatchedLog, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch, *, gave_way: bool
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.REST_SECONDS_MAX", 60.0)
    monkeypatch.setattr("eventlog.commit_queue.RESTS_PER_FLIGHT", 10_000)
    monkeypatch.setattr("eventlog.commit_queue.GIVES_WAY_SECONDS", 0.1)
    began = asyncio.get_running_loop().time()
    if gave_way:
        commit.give_way()
    await flown(log, commit, 0.01)
    sent = patient(commit, *singles(2))
    await asyncio.sleep(0)
    commit.end_gathering()
    await asyncio.gather(*sent)
    assert log.sizes == [1, 2]
    assert (asyncio.get_running_loop().time() - began >= 0.1) is gave_way


@pytest.mark.parametrize(
    ("events", "let_go"),
    [(2, GroupCommit.hurry), (CROWD_EVENTS_MIN, GroupCommit.end_gathering)],
)
async def test_neither_a_crowd_nor_what_is_hurried_rests(
    log: WatchedLog,
    commit: GroupCommit,
    monkeypatch: pytest.MonkeyPatch,
    events: int,
    let_go: Callable[[GroupCommit], None],
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.REST_SECONDS_MAX", 60.0)
    monkeypatch.setattr("eventlog.commit_queue.RESTS_PER_FLIGHT", 10_000)
    commit.give_way()
    await flown(log, commit, 0.01)
    sent = patient(commit, *singles(events))
    await asyncio.sleep(0)
    let_go(commit)
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [1, events]


async def test_what_is_hurried_while_another_batch_is_on_its_way_goes_once_that_has_landed(
    log: WatchedLog, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.REST_SECONDS_MAX", 60.0)
    monkeypatch.setattr("eventlog.commit_queue.RESTS_PER_FLIGHT", 10**9)
    commit.give_way()
    log.gate.clear()
    sent = patient(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    sent += patient(commit, *singles(2))
    await asyncio.sleep(0)
    commit.hurry()
    log.gate.set()
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [1, 2]


async def test_what_may_not_wait_passes_what_may(log: WatchedLog, commit: GroupCommit) -> None:
    log.gate.clear()
    crowd = patient(commit, *singles((FLIGHTS_MAX + 1) * GATHERED_EVENTS_MAX))
    await until(lambda: len(log.batches) == FLIGHTS_MAX)
    urgent = send(commit, *singles(2))
    await until(lambda: len(log.batches) == FLIGHTS_MAX + 1)
    assert log.sizes == [GATHERED_EVENTS_MAX] * FLIGHTS_MAX + [2]
    log.gate.set()
    assert all(isinstance(o, Stored) for o in await asyncio.gather(*urgent, *crowd))


async def test_enough_that_may_wait_waits_no_longer(log: WatchedLog, commit: GroupCommit) -> None:
    log.gate.clear()
    sent = patient(commit, *singles(GATHERED_EVENTS_MAX))
    for _ in range(4):
        await asyncio.sleep(0)
    assert log.sizes == [GATHERED_EVENTS_MAX]
    more = patient(commit, *singles(GATHERED_EVENTS_MAX - 1))
    await asyncio.sleep(2 * GATHER_SECONDS)
    assert log.sizes == [GATHERED_EVENTS_MAX]
    more += patient(commit, *singles(1))
    await until(lambda: log.sizes == [GATHERED_EVENTS_MAX] * 2)
    log.gate.set()
    await asyncio.gather(*sent, *more)


async def test_what_may_wait_is_not_forgotten_behind_an_append(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    first = patient(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    waiting = patient(commit, *singles(3))
    await asyncio.sleep(2 * GATHER_SECONDS)
    assert log.sizes == [1]
    log.gate.set()
    outcomes = await asyncio.gather(*first, *waiting)
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert log.sizes == [1, 3]
