from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_asyncio

from eventlog.connection import Connection
from eventlog.keys.jetstream import JetStreamKeyStore
from tests.contracts.key_store import KeyStoreContract
from tests.support.nats import new_workspace
from tests.support.sealed import Source


class TestJetStreamKeyStore(KeyStoreContract):
    @pytest.fixture
    def workspace(self) -> str:
        return new_workspace()

    @pytest_asyncio.fixture
    async def store(
        self, connection: Connection, workspace: str, source: Source
    ) -> JetStreamKeyStore:
        store = JetStreamKeyStore(connection, workspace, source=source)
        await store.open()
        return store

    @pytest_asyncio.fixture
    async def other_store(
        self, connection: Connection, workspace: str, source: Source, store: JetStreamKeyStore
    ) -> Callable[[], JetStreamKeyStore]:
        other = JetStreamKeyStore(connection, workspace, source=source)
        await other.open()
        return lambda: other
