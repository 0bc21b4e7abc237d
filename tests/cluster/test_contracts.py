"""The suites that every implementation passes, on three servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from tests.contracts.event_log import EventLogContract
from tests.support.nats import new_workspace


@pytest_asyncio.fixture
async def log(connection: Connection) -> AsyncIterator[JetStreamEventLog]:
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream(replicas=3)
    yield log


class TestEventLogOnThreeServers(EventLogContract):
    pass
