"""The suites that every implementation passes, on three servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.subjects import Subjects
from tests.contracts.event_log import EventLogContract
from tests.contracts.key_store import KeyStoreContract
from tests.support.cluster import Cluster
from tests.support.nats import new_workspace
from tests.support.sealed import Source


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


class TestKeyStoreOnThreeServers(KeyStoreContract):
    """Two stores, each through a server of its own: what one reads may lag behind the other."""

    @pytest.fixture
    def workspace(self) -> str:
        return new_workspace()

    @pytest_asyncio.fixture
    async def store(
        self, connection: Connection, workspace: str, source: Source
    ) -> JetStreamKeyStore:
        store = JetStreamKeyStore(connection, workspace, source=source)
        await store.open(replicas=3)
        return store

    @pytest_asyncio.fixture
    async def other_store(
        self, cluster: Cluster, workspace: str, source: Source, store: JetStreamKeyStore
    ) -> AsyncIterator[Callable[[], JetStreamKeyStore]]:
        there = await cluster.connect(cluster.members[1])
        other = JetStreamKeyStore(there, workspace, source=source)
        await other.open(replicas=3)
        yield lambda: other
        await there.close()
