from __future__ import annotations

from typing import Any

import pytest

from eventlog.connection import Connection
from eventlog.errors import UnsafeStream
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.stream_config import log_config, unsafe_settings
from eventlog.subjects import Subjects
from tests.support.events import draft, new_record, store
from tests.support.nats import new_workspace

SECOND = 1_000_000_000


async def test_a_stream_is_created_once_and_found_again(connection: Connection) -> None:
    workspace = new_workspace()
    for revision in (1, 2):
        log = JetStreamEventLog(connection, workspace)
        await log.ensure_stream()
        assert (await store(log, draft(new_record()))).revision == revision


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ({"max_age": 3_600 * SECOND}, "max_age must be unlimited"),
        ({"max_bytes": 1_000_000}, "max_bytes must be unlimited"),
        ({"max_msgs": 100}, "max_msgs must be unlimited"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject must be unlimited"),
        ({"max_msg_size": 100_000}, "max_msg_size must be unlimited"),
        ({"max_consumers": 10}, "max_consumers must be unlimited"),
        ({"first_seq": 100}, "first_seq must not be set"),
        ({"allow_atomic": False}, "allow_atomic must be True"),
        ({"allow_direct": False}, "allow_direct must be True"),
        ({"deny_delete": False}, "deny_delete must be True"),
        ({"deny_purge": False}, "deny_purge must be True"),
        ({"storage": "memory"}, "storage must be file"),
        ({"discard": "old"}, "discard must be new"),
        ({"persist_mode": "async", "allow_atomic": False}, "persist_mode must not be async"),
        ({"allow_msg_ttl": True}, "allow_msg_ttl must not be set"),
        ({"retention": "interest"}, "retention must be limits"),
    ],
)
async def test_a_stream_that_could_lose_events_is_refused(
    connection: Connection, setting: dict[str, Any], fault: str
) -> None:
    workspace = new_workspace()
    subjects = Subjects(workspace)
    config = log_config(subjects, replicas=1) | setting
    await JetStreamApi(connection).call(f"STREAM.CREATE.{subjects.log_name}", config)
    with pytest.raises(UnsafeStream, match=fault):
        await JetStreamEventLog(connection, workspace).ensure_stream()


async def test_a_stream_with_too_few_replicas_is_refused(connection: Connection) -> None:
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    with pytest.raises(UnsafeStream, match="num_replicas must be at least 3"):
        await log.ensure_stream(replicas=3)


@pytest.mark.parametrize("more", [["koseki.shop.other"], []])
def test_a_stream_that_takes_other_subjects_is_refused(more: list[str]) -> None:
    subjects = Subjects("shop")
    config = log_config(subjects, replicas=1) | {"subjects": [*subjects.filters[1:], *more]}
    assert [f for f in unsafe_settings(config, subjects.filters, replicas=1) if "subjects" in f]


def test_the_settings_of_a_new_log_are_safe() -> None:
    subjects = Subjects("shop")
    assert not list(unsafe_settings(log_config(subjects, replicas=3), subjects.filters, replicas=3))
