"""Where a command finds its server: named, that of a running installation, or started for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

from app.bootstrap import open_connection
from app.nats_cluster import Role
from app.processes import hold
from app.settings import Settings
from app.status import NotRunning, running_settings
from app.supervisor import MAX_PAYLOAD_BYTES, StartFailed
from eventlog.connection import Connection
from eventlog.server import EmbeddedServer


@asynccontextmanager
async def reached(
    settings: Settings, *, role: Role, may_run: bool = True
) -> AsyncIterator[tuple[Settings, Connection]]:
    """Connect in a role, and give the settings that hold there.

    With `may_run` false nothing else may run on the data folder meanwhile. Raises `StartFailed`,
    `NotRunning`, `CredentialsFault`, `LogError` and `OSError`.
    """
    if settings.nats_cluster is not None:
        with _kept_alone(settings) if not may_run else nullcontext():
            connection = await open_connection(settings, "command", role=role)
            try:
                yield settings, connection
            finally:
                await connection.close()
        return
    try:
        running = running_settings(settings)
    except NotRunning:
        if may_run and not settings.nats_folder.exists():
            raise NotRunning(f"{settings.data} holds no log; --nats names a server") from None
        async with _started(settings) as connection:
            yield settings, connection
        return
    if not may_run:
        raise StartFailed(f"koseki runs on {settings.data}: stop it first")
    if settings.workspace_key:
        running = running.model_copy(update={"workspace_key": settings.workspace_key})
    connection = await open_connection(running, "command", role=role)
    try:
        yield running, connection
    finally:
        await connection.close()


@contextmanager
def _kept_alone(settings: Settings) -> Iterator[None]:
    """Let nothing run on the data folder, where there is one. Raises `StartFailed`."""
    if not settings.data.exists():
        yield
        return
    lock = hold(settings.lock_file)
    if lock is None:
        raise StartFailed(f"koseki runs on {settings.data}: stop it first")
    try:
        yield
    finally:
        os.close(lock)


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[Connection]:
    """Run the installation's server alone, for as long as a command takes."""
    settings.data.mkdir(parents=True, exist_ok=True)
    lock = hold(settings.lock_file)
    if lock is None:
        raise StartFailed(f"koseki starts or stops on {settings.data}: wait for it")
    server = EmbeddedServer(settings.nats_folder, max_payload_bytes=MAX_PAYLOAD_BYTES)
    try:
        await server.start()
        connection = await Connection.open(server.url, name="koseki-command")
        try:
            await connection.wait_for_server_name(server.name, timeout_seconds=10.0)
            yield connection
        finally:
            await connection.close()
    finally:
        await server.stop()
        os.close(lock)
