"""What followers and leaders that lag may say, and what a check stands on (R13)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.port import Stored
from eventlog.subjects import Subjects
from tests.support.cluster import Cluster
from tests.support.events import attempt, draft, new_record, store, touched
from tests.support.nats import new_workspace
from tests.support.waiting import until_async

ROUNDS = 8


async def test_a_follower_may_be_behind_but_the_leaders_revisions_never_are(
    own_cluster: Cluster,
) -> None:
    subjects = Subjects(new_workspace())
    home = await own_cluster.connect()
    log = JetStreamEventLog(home, subjects.workspace)
    await log.ensure_stream(replicas=3)
    await own_cluster.wait_current(JetStreamApi(home), subjects.log_name)
    leader = await own_cluster.leader_of(JetStreamApi(home), subjects.log_name)
    follower = own_cluster.others(leader, own_cluster.members[0])[0]
    away = await own_cluster.connect(follower)
    far = JetStreamEventLog(away, subjects.workspace)
    for _ in range(ROUNDS):
        stream, after = new_record(), None
        follower.pause()
        for _ in range(10):
            after = await store(log, draft(stream, touched()), after=after)
        assert after is not None
        asking = asyncio.create_task(far.leader_revisions([stream]))
        loading = asyncio.create_task(far.load(stream))
        await asyncio.sleep(0)
        follower.resume()
        assert await asking == [after.revision]
        loaded = [entry.version for entry in await loading]
        assert loaded == list(range(1, len(loaded) + 1))

        async def is_whole(stored: Stored = after) -> bool:
            found = await far.last_entries(stored.heads)
            return {s: e.head for s, e in found.items()} == stored.heads

        await until_async(is_whole)
    await asyncio.gather(home.close(), away.close())


async def test_a_leader_that_was_replaced_while_it_stood_still_is_not_believed(
    own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise the connection has left the server that stands still before another is elected.
    monkeypatch.setattr("eventlog.connection.ROUND_TRIPS_LOST_MAX", 1_000)
    monkeypatch.setattr("eventlog.connection.CONNECT_TIMEOUT_SECONDS", 60)
    subjects = Subjects(new_workspace())
    home = await own_cluster.connect()
    await JetStreamEventLog(home, subjects.workspace).ensure_stream(replicas=3)
    await own_cluster.wait_current(JetStreamApi(home), subjects.log_name)
    leader = await own_cluster.leader_of(JetStreamApi(home), subjects.log_name)
    there = await own_cluster.connect(leader)
    elsewhere = await own_cluster.connect(own_cluster.others(leader)[0])
    old, log = (JetStreamEventLog(c, subjects.workspace) for c in (there, elsewhere))
    stream = new_record()
    first = await store(log, draft(stream))
    assert await old.leader_revisions([stream]) == [first.revision]
    leader.pause()
    outcome = await log.append(attempt(draft(stream), expected=first.heads), timeout_seconds=30)
    assert isinstance(outcome, Stored)
    answers: list[int] = []

    async def ask() -> None:
        with suppress(LogUnavailable):
            answers.extend(await old.leader_revisions([stream]))

    async with asyncio.TaskGroup() as asking:
        for number in range(200):
            asking.create_task(ask())
            if number == 100:
                leader.resume()
            await asyncio.sleep(0.001)
    assert answers
    assert set(answers) == {outcome.revision}
    await asyncio.gather(home.close(), there.close(), elsewhere.close())
