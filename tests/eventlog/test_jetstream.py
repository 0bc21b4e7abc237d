from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from eventlog.jetstream import JetStreamEventLog
from tests.contracts.event_log import EventLogContract
from tests.support.events import draft, new_record, store, touched


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
