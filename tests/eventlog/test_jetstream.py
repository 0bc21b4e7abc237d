from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from eventlog import tail
from eventlog.connection import Connection
from eventlog.errors import LogDamaged
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.nats_client import Received
from eventlog.pull_consumer import PullConsumer
from eventlog.stream_config import log_config
from eventlog.subjects import Subjects
from tests.contracts.event_log import EventLogContract
from tests.support.events import draft, new_record, store, touched
from tests.support.nats import new_workspace


@pytest.fixture
def log(jetstream_log: JetStreamEventLog) -> JetStreamEventLog:
    return jetstream_log


class TestJetStreamEventLog(EventLogContract):
    pass


async def test_a_long_read_is_served_by_one_consumer(log: JetStreamEventLog) -> None:
    for _ in range(4):
        await store(log, *(draft(new_record(), touched()) for _ in range(1_000)))
    with capture_logs() as lines:
        read = [len(batch) async for batch in log.read(batch_events_max=300)]
    assert sum(read) == 4_000
    assert not [line for line in lines if line["event"] == "log_consumer_lost"]


async def test_a_slow_reader_has_at_most_two_batches_fetched_ahead(
    log: JetStreamEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await store(log, *(draft(new_record(), touched()) for _ in range(1_000)))
    held: list[int] = []
    take = PullConsumer._take

    def watched(consumer: PullConsumer, message: Received) -> None:
        take(consumer, message)
        held.append(len(consumer._buffer))

    monkeypatch.setattr(PullConsumer, "_take", watched)
    read = 0
    async for entries in log.read(batch_events_max=200):
        await asyncio.sleep(0.02)
        read += len(entries)
    assert read == 4_000
    assert max(held) <= 2 * 200


async def test_a_scan_asks_once_for_hundreds_of_messages(
    log: JetStreamEventLog, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How much faster that is, `benchmarks` measures: here it would hang on the machine's load.
    for _ in range(4):
        await store(log, *(draft(new_record(), touched()) for _ in range(1_000)))
    sent, send = 0, connection._send

    async def counted(block: bytes, *, losses: int | None = None) -> None:
        nonlocal sent
        sent += 1
        await send(block, losses=losses)

    monkeypatch.setattr(connection, "_send", counted)
    assert sum([len(batch) async for batch in log.read()]) == 4_000
    assert 0 < sent <= 4_000 / 200


async def test_a_log_with_a_hole_is_damaged(connection: Connection) -> None:
    subjects = Subjects(new_workspace())
    api = JetStreamApi(connection)
    config = log_config(subjects, replicas=1) | {"deny_delete": False}
    await api.call(f"STREAM.CREATE.{subjects.log_name}", config)
    log = JetStreamEventLog(connection, subjects.workspace)
    stream = new_record()
    await store(log, draft(stream), draft(stream), draft(stream))
    await api.call(f"STREAM.MSG.DELETE.{subjects.log_name}", {"seq": 2})
    reading = log.read()
    assert [entry.revision for entry in await anext(reading)] == [1]
    with pytest.raises(LogDamaged, match="revision 3 stands where 2 should"):
        await anext(reading)
    with pytest.raises(LogDamaged, match="version 3 after 1"):
        await log.load(stream)
    assert (await log.shape()).faults == ("deleted_events",)


async def test_a_survey_goes_on_where_its_consumer_was_lost(
    log: JetStreamEventLog, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "SURVEY_EVENTS_MAX", 2)
    for _ in range(9):
        await store(log, draft(new_record(), touched()))
    api, name = JetStreamApi(connection), Subjects(log.workspace).log_name
    read: list[int] = []
    lost: list[str] = []
    async for entries in log.survey():
        read += [entry.revision for entry in entries]
        consumers = (await api.call(f"CONSUMER.NAMES.{name}"))["consumers"] if not lost else []
        for consumer in consumers:
            await api.call(f"CONSUMER.DELETE.{name}.{consumer}")
            lost.append(consumer)
    assert lost
    assert read == [*range(1, 10)]


async def test_every_batch_is_sent_under_an_id_of_its_own(
    log: JetStreamEventLog, connection: Connection
) -> None:
    for _ in range(3):
        await store(log, draft(new_record()), draft(new_record()))
    api = JetStreamApi(connection)
    name = Subjects(log.workspace).log_name
    messages = [await api.message(name, {"seq": revision}) for revision in range(1, 7)]
    ids = [message.headers["Nats-Batch-Id"] for message in messages if message]
    assert ids[0::2] == ids[1::2]
    assert len(set(ids)) == 3
