"""Connections in each role to servers of the shipped configuration, and what is denied there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.jetstream import JetStreamIntake
from actors.intake.letter_seal import FAMILY
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi, Json
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from tests.cluster.shipped import WORKSPACE, Roles, shipped_servers
from tests.support.sealed import Source

DENIED_SECONDS = 0.3
LOG, KEYS, INTAKE, SNAPSHOTS = (
    f"koseki-{WORKSPACE}-{name}" for name in ("log", "keys", "intake", "snapshots")
)
SOURCE = Source()


async def is_denied(connection: Connection, subject: str, body: bytes = b"{}") -> bool:
    """Whether nobody answers a request: a denied one times out."""
    try:
        await connection.request(subject, body, timeout_seconds=DENIED_SECONDS)
    except LogUnavailable:
        return True
    return False


async def info_of(connection: Connection, stream_name: str) -> Json:
    return await JetStreamApi(connection).call(f"STREAM.INFO.{stream_name}")


async def snapshots_of(connection: Connection) -> JetStreamSnapshotStore:
    keys = JetStreamKeyStore(connection, WORKSPACE, source=SOURCE)
    await keys.open()
    return JetStreamSnapshotStore(connection, WORKSPACE, keys=KeyRing(keys))


async def letters_of(connection: Connection) -> JetStreamDeadLetters:
    keys = JetStreamKeyStore(connection, WORKSPACE, source=SOURCE, family=FAMILY)
    await keys.open()
    return JetStreamDeadLetters(connection, workspace=WORKSPACE, keys=keys)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    async with shipped_servers(tmp_path_factory.mktemp("shipped"), servers=1) as roles:
        yield roles


@pytest_asyncio.fixture
async def roles(servers: Roles) -> AsyncIterator[Roles]:
    """Connect in roles, with the streams there that the operator makes."""
    roles = Roles(servers.urls, servers.passwords)
    operator = await roles.connect("operator")
    await JetStreamEventLog(operator, WORKSPACE).ensure_stream()
    await JetStreamIntake(operator, workspace=WORKSPACE).open_streams()
    await (await letters_of(operator)).open()
    await (await snapshots_of(operator)).open()
    yield roles
    await roles.close()
