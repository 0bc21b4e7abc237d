"""Group commit over real servers: one that dies under it, and a subject in permanent conflict."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter

from domain.ids import EventId
from eventlog.commit import GroupCommit
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import EMPTY, Conflict, Outcome, Stored
from eventlog.server import EmbeddedServer
from tests.support.events import attempt, draft, new_record, store, touched
from tests.support.nats import connect, new_workspace
from tests.support.waiting import until

CROWD = 600
"""Enough for two batches at once."""

WRITERS = 64


async def test_a_server_killed_in_mid_batch_loses_nothing_and_stores_nothing_twice(
    own_server: EmbeddedServer,
) -> None:
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    commit = GroupCommit(log)
    acknowledged: list[EventId] = []
    refused: list[EventId] = []
    stop = asyncio.Event()

    async def write(number: int) -> None:
        stream, head, appends = new_record(), EMPTY, 0
        while not stop.is_set():
            appends += 1
            expected = EMPTY if number % 50 == appends else head
            one = attempt(draft(stream, touched()), expected={stream: expected})
            outcome = await commit.append(one, timeout_seconds=30)
            if isinstance(outcome, Stored):
                acknowledged.append(one.drafts[0].event_id)
                head = outcome.heads[stream]
            else:
                assert outcome == Conflict()
                assert head.revision > expected.revision
                refused.append(one.drafts[0].event_id)

    async with asyncio.TaskGroup() as writers:
        for number in range(CROWD):
            writers.create_task(write(number))

        for _ in range(3):
            enough = len(acknowledged) + 2 * CROWD
            await until(lambda enough=enough: len(acknowledged) > enough)  # type: ignore[misc]
            await own_server.kill()
            await own_server.wait_ready(timeout_seconds=20)
        stop.set()
    stored = [e.event.event_id async for batch in log.read() for e in batch if e.event]
    assert set(Counter(stored).values()) == {1}
    assert sorted(stored) == sorted(acknowledged)
    assert refused
    assert set(refused).isdisjoint(stored)
    await connection.close()


async def test_a_subject_in_permanent_conflict_costs_the_others_less_than_half_their_rate(
    jetstream_log: JetStreamEventLog,
) -> None:
    taken = new_record()
    await store(jetstream_log, draft(taken, touched()))
    commit = GroupCommit(jetstream_log)
    conflicts: list[Outcome] = []

    async def lose() -> None:
        while True:
            conflicts.append(
                await commit.append(attempt(draft(taken, touched())), timeout_seconds=10)
            )

    async def write(appends: int) -> None:
        stream, head = new_record(), EMPTY
        for _ in range(appends):
            one = attempt(draft(stream, touched()), expected={stream: head})
            outcome = await commit.append(one, timeout_seconds=10)
            assert isinstance(outcome, Stored)
            head = outcome.heads[stream]

    async def seconds(appends: int) -> float:
        begun = perf_counter()
        await asyncio.gather(*(write(appends) for _ in range(WRITERS)))
        return perf_counter() - begun

    await seconds(5)
    alone = beside = 0.0
    for _ in range(5):
        alone += await seconds(10)
        losing = asyncio.create_task(lose())
        beside += await seconds(10)
        losing.cancel()
    assert beside < 2 * alone
    assert len(conflicts) > 10
    assert set(map(type, conflicts)) == {Conflict}
