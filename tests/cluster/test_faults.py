"""Members that die, stop and change their leader while many write (R1, R2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from eventlog import appender
from eventlog.commit import GroupCommit
from eventlog.connection import Connection, Received
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.port import Conflict, Stored
from eventlog.subjects import Subjects
from tests.cluster.writers import Account, race, write, write_in_haste
from tests.support.cluster import Cluster
from tests.support.events import attempt, draft, new_id, new_record, touched
from tests.support.nats import new_workspace
from tests.support.waiting import until

CONFLICT = 10071
CONFLICT_IN_FLIGHT = 10164
NOT_WHOLE = 10176
OPEN_BATCHES_MAX = 50


class Logs:
    """One log, through a connection to each member."""

    def __init__(self, cluster: Cluster, connections: list[Connection]) -> None:
        self.cluster = cluster
        self.name = Subjects(workspace := new_workspace()).log_name
        self.apis = [JetStreamApi(connection) for connection in connections]
        self.all = [JetStreamEventLog(connection, workspace) for connection in connections]


async def _logs(cluster: Cluster) -> AsyncIterator[Logs]:
    connections = [await cluster.connect(member) for member in cluster.members]
    logs = Logs(cluster, connections)
    await logs.all[0].ensure_stream(replicas=3)
    await cluster.wait_current(logs.apis[0], logs.name)
    yield logs
    await asyncio.gather(*(connection.close() for connection in connections))


@pytest_asyncio.fixture
async def logs(cluster: Cluster) -> AsyncIterator[Logs]:
    async for logs in _logs(cluster):
        yield logs


@pytest_asyncio.fixture
async def own_logs(own_cluster: Cluster) -> AsyncIterator[Logs]:
    async for logs in _logs(own_cluster):
        yield logs


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count the errors that servers answered appends with."""
    seen: Counter[int] = Counter()
    judge = appender._judge_error

    def count(status: int, code: int) -> object:
        seen[code] += 1
        return judge(status, code)

    monkeypatch.setattr(appender, "_judge_error", count)
    return seen


async def test_a_leader_that_dies_and_one_that_stops_lose_nothing_and_store_nothing_twice(
    own_logs: Logs, codes: Counter[int]
) -> None:
    logs, cluster, account = own_logs.all, own_logs.cluster, Account()
    async with asyncio.TaskGroup() as writers:
        for log in logs:
            commit = GroupCommit(log)
            for number in range(30):
                writers.create_task(write(commit, account, events=1 + number % 3))
            writers.create_task(write(commit, account, events=1, loses_every=3))
            writers.create_task(write(log, account, events=1))
            writers.create_task(write(log, account, events=7, loses_every=5))
            writers.create_task(write(log, account, events=40))
            writers.create_task(write_in_haste(log, account))
        writers.create_task(race(logs, account))
        await account.until_more(1_000)
        leader = await cluster.leader_of(own_logs.apis[0], own_logs.name)
        await leader.kill()
        await account.until_more(2_000)
        await leader.start()
        await cluster.wait_current(own_logs.apis[0], own_logs.name)
        leader = await cluster.leader_of(own_logs.apis[0], own_logs.name)
        leader.pause()
        await account.until_more(2_000)
        leader.resume()
        await account.until_more(1_000)
        account.is_over.set()
    assert account.absent
    assert account.unknown
    await account.compare(logs[0])


async def test_of_writers_on_all_members_one_wins_and_the_others_conflict_in_either_form(
    logs: Logs, codes: Counter[int]
) -> None:
    for _ in range(50):
        stream = new_record()
        outcomes = await asyncio.gather(
            *(
                log.append(attempt(*(draft(s, touched()) for s in some)), timeout_seconds=10)
                for log in logs.all
                for some in ([stream], [stream], [stream, new_record()])
            )
        )
        assert sum(isinstance(outcome, Stored) for outcome in outcomes) == 1
        assert outcomes.count(Conflict()) == len(outcomes) - 1
        # While another is on its way it is 10164, afterwards 10071.
        late = attempt(draft(stream, touched()))
        assert await logs.all[0].append(late, timeout_seconds=10) == Conflict()
        if codes[CONFLICT] and codes[CONFLICT_IN_FLIGHT]:
            break
    assert codes[CONFLICT]
    assert codes[CONFLICT_IN_FLIGHT]


async def test_writers_go_on_through_changes_of_leader(logs: Logs) -> None:
    account = Account()
    async with asyncio.TaskGroup() as writers:
        for log in logs.all:
            for _ in range(60):
                writers.create_task(write(log, account, events=2))
        for _ in range(3):
            await account.until_more(1_000)
            await logs.apis[0].call(f"STREAM.LEADER.STEPDOWN.{logs.name}")
        await account.until_more(1_000)
        account.is_over.set()
    assert not account.absent
    assert not account.unknown
    await account.compare(logs.all[1])


async def test_a_leader_with_as_many_open_batches_as_it_takes_is_asked_again(
    logs: Logs, codes: Counter[int]
) -> None:
    """The server says 10210 of a batch's first message, which asks for no answer, then 10176."""
    connection, prefix = logs.apis[0].connection, f"koseki.{logs.all[0].workspace}.record"
    for number in range(OPEN_BATCHES_MAX):
        headers = {"Nats-Batch-Id": f"open-{number}", "Nats-Batch-Sequence": "1"}
        answer = await connection.request(
            f"{prefix}.{new_id()}", headers=headers, timeout_seconds=5
        )
        assert not answer.data
    one = attempt(draft(new_record()), draft(new_record()))
    appending = asyncio.create_task(logs.all[1].append(one, timeout_seconds=30))
    await until(lambda: codes[NOT_WHOLE] > 2)
    assert not appending.done()
    ends = {"Nats-Batch-Id": "open-0", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
    await connection.request(f"{prefix}.{new_id()}", headers=ends, timeout_seconds=5)
    outcome = await appending
    assert isinstance(outcome, Stored)
    assert outcome.revision == 4


@pytest.mark.parametrize(("status", "code"), [(503, 10163), (429, 10210), (503, 10008)])
@pytest.mark.parametrize("events", [1, 2])
async def test_what_a_leader_cannot_take_now_is_sent_again(
    connection: Connection, status: int, code: int, events: int
) -> None:
    """Answered by the test in the server's place: when a server does so is not ours to choose."""
    log = JetStreamEventLog(connection, new_workspace())
    error = orjson.dumps({"error": {"code": status, "err_code": code}})
    answers = iter([error, error, orjson.dumps({"seq": events})])

    answering = set()

    def answer(message: Received) -> None:
        if message.reply:
            task = asyncio.create_task(connection.publish(message.reply, next(answers)))
            answering.add(task)
            task.add_done_callback(answering.discard)

    responder = await connection.subscribe(f"koseki.{log.workspace}.record.*", answer)
    one = attempt(*(draft(new_record()) for _ in range(events)))
    outcome = await log.append(one, timeout_seconds=10)
    assert isinstance(outcome, Stored)
    assert [event.revision for event in outcome.events] == list(range(1, events + 1))
    await responder.unsubscribe()
