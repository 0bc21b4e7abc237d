"""Fixtures: one embedded nats-server for a test run, a connection, and a fresh workspace.

A folder's conftest imports the fixtures that its tests ask for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer


def new_workspace() -> str:
    """Name a workspace that no other test uses."""
    return f"w{uuid4().hex[:16]}"


async def connect(server: EmbeddedServer) -> Connection:
    """Connect to a server, and make sure that it is this one."""
    connection = await Connection.open(server.url, name="test")
    await connection.wait_for_server_name(server.name, timeout_seconds=5)
    return connection


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """Share one server; tests that stop or kill a server start their own."""
    server = EmbeddedServer(tmp_path_factory.mktemp("nats"))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """Give a server that the test may kill."""
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def connection(nats_server: EmbeddedServer) -> AsyncIterator[Connection]:
    """Connect to the shared server."""
    connection = await connect(nats_server)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def jetstream_log(connection: Connection) -> JetStreamEventLog:
    """Make a log in a fresh workspace."""
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    return log
