"""The suites that every implementation passes, on three servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.subjects import Subjects
from tests.contracts.event_log import EventLogContract
from tests.support.cluster import Cluster
from tests.support.nats import new_workspace


@pytest_asyncio.fixture
async def log(cluster: Cluster, connection: Connection) -> AsyncIterator[JetStreamEventLog]:
    """Make a log, and connect to its leader: reads that a follower answers may lag."""
    subjects = Subjects(new_workspace())
    await JetStreamEventLog(connection, subjects.workspace).ensure_stream(replicas=3)
    leader = await cluster.leader_of(JetStreamApi(connection), subjects.log_name)
    to_leader = await cluster.connect(leader)
    yield JetStreamEventLog(to_leader, subjects.workspace)
    await to_leader.close()


class TestEventLogOnThreeServers(EventLogContract):
    pass
