"""The fixture of the tests that need a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventlog.connection import Connection
from eventlog.server import EmbeddedServer
from tests.intake.running import Intake


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    connection = await Connection.open(server.url)
    try:
        await connection.wait_for_server_name(server.name, timeout_seconds=5)
        found = Intake(server, connection)
        await found.queue.open()
        await found.dead_letters.open()
        yield found
        await found.queue.close()
    finally:
        await connection.close()
        await server.stop()
