"""A server of its own for a part, with our connection and a bare nats-py client to it.

As everything we ship, it syncs before it acknowledges. Its data lie in a folder that is gone after.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.aio.client import Client

from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.workspace_key import new_workspace_key
from eventlog.server import EmbeddedServer

WORKSPACE = "bench"
START_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a part measures on."""

    server: EmbeddedServer
    connection: Connection
    log: JetStreamEventLog
    client: Client


@asynccontextmanager
async def log_scene(key_file: Path | None = None) -> AsyncIterator[Scene]:
    """Start a server with an empty log of a workspace; stop it after.

    The workspace key is written to a file, for other processes, if one is named.
    """
    with tempfile.TemporaryDirectory(prefix="koseki-bench-") as folder:
        server = EmbeddedServer(Path(folder) / "nats")
        await server.start()
        try:
            async with _connected(server, key_file) as scene:
                yield scene
        finally:
            await server.stop()


@asynccontextmanager
async def _connected(server: EmbeddedServer, key_file: Path | None) -> AsyncIterator[Scene]:
    connection = await Connection.open(server.url, name="bench")
    client = await nats.connect(server.url)
    try:
        await connection.wait_for_server_name(server.name, timeout_seconds=START_SECONDS_MAX)
        workspace_key = new_workspace_key()
        if key_file is not None:
            await asyncio.to_thread(key_file.write_text, workspace_key.text())
        keys = JetStreamKeyStore(connection, WORKSPACE, source=lambda: workspace_key)
        await keys.open()
        log = JetStreamEventLog(connection, WORKSPACE, keys=KeyRing(keys))
        await log.ensure_stream()
        yield Scene(server, connection, log, client)
        await log.close()
    finally:
        await client.close()
        await connection.close()
