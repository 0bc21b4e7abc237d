"""Settings of an installation that seems to run, over the nats-server of the tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from app.bootstrap import open_log
from app.processes import hold
from app.settings import Settings, ensure_workspace_key, write_atomically
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer
from tests.support.nats import connection, nats_server, new_workspace

__all__ = ["connection", "nats_server"]


@pytest.fixture
def settings(nats_server: EmbeddedServer, tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(
        data=tmp_path / "data",
        workspace=new_workspace(),
        nats_url=nats_server.url,
        nats_server_name=nats_server.name,
    )
    ensure_workspace_key(settings)
    lock = hold(settings.lock_file)
    assert lock is not None
    running = {"settings": settings.model_dump(mode="json")}
    write_atomically(settings.running_file, orjson.dumps(running))
    yield settings
    os.close(lock)


@pytest_asyncio.fixture
async def sealed(connection: Connection, settings: Settings) -> AsyncIterator[JetStreamEventLog]:
    log = await open_log(connection, settings)
    await log.ensure_stream()
    yield log
    await log.close()
