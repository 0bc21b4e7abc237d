"""Start-up refuses a log that could lose events, and says what to change."""

from __future__ import annotations

from typing import Any

import pytest

from eventlog.connection import Connection
from eventlog.errors import UnsafeStream
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.stream_config import log_config
from eventlog.subjects import Subjects
from tests.support.events import draft, new_record, store
from tests.support.nats import new_workspace


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ({"num_replicas": 1}, "num_replicas must be at least 3"),
        ({"max_age": 3_600_000_000_000}, "max_age must be unlimited"),
        ({"max_bytes": 1_000_000}, "max_bytes must be unlimited"),
        ({"max_msgs": 100}, "max_msgs must be unlimited"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject must be unlimited"),
        ({"allow_atomic": False}, "allow_atomic must be True"),
        ({"discard": "old"}, "discard must be new"),
        ({"storage": "memory"}, "storage must be file"),
    ],
)
async def test_a_stream_that_could_lose_events_is_refused(
    connection: Connection, setting: dict[str, Any], fault: str
) -> None:
    subjects = Subjects(new_workspace())
    config = log_config(subjects, replicas=3) | setting
    await JetStreamApi(connection).call(f"STREAM.CREATE.{subjects.log_name}", config)
    with pytest.raises(UnsafeStream) as refusal:
        await JetStreamEventLog(connection, subjects.workspace).ensure_stream(replicas=3)
    assert refusal.value.message == f"stream {subjects.log_name}: {fault}"


async def test_a_replicated_log_cannot_be_set_to_acknowledge_before_it_is_on_disk(
    connection: Connection,
) -> None:
    subjects = Subjects(new_workspace())
    log = JetStreamEventLog(connection, subjects.workspace)
    config = log_config(subjects, replicas=1) | {"persist_mode": "async", "allow_atomic": False}
    await JetStreamApi(connection).call(f"STREAM.CREATE.{subjects.log_name}", config)
    with pytest.raises(UnsafeStream) as refusal:
        await log.ensure_stream(replicas=3)
    for fault in (
        "allow_atomic must be True",
        "persist_mode must not be async",
        "num_replicas must be at least 3",
    ):
        assert fault in refusal.value.message


async def test_a_log_is_taken_once_it_was_given_the_replicas_that_it_lacked(
    connection: Connection,
) -> None:
    subjects = Subjects(new_workspace())
    log = JetStreamEventLog(connection, subjects.workspace)
    await log.ensure_stream()
    one = await store(log, draft(new_record()))
    with pytest.raises(UnsafeStream):
        await log.ensure_stream(replicas=3)
    config = log_config(subjects, replicas=3)
    await JetStreamApi(connection).call(f"STREAM.UPDATE.{subjects.log_name}", config)
    await log.ensure_stream(replicas=3)
    assert (await store(log, draft(new_record()))).revision == one.revision + 1
