"""A rotation of the workspace key as documented: after it nothing needs the older line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.port import RejectedMessage
from app.bootstrap import open_connection, prepare_streams
from app.dead_letters import open_dead_letters, open_letter_keys
from app.keeping_keys import key_status, rotate_keys
from app.reaching import reached
from app.settings import Settings, ensure_workspace_key
from domain.ids import RecordId
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.workspace_key import WorkspaceKeys
from eventlog.server import EmbeddedServer
from tests.support.events import new_id

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def letters_of_one_that_starts(settings: Settings) -> AsyncIterator[JetStreamDeadLetters]:
    """Run a server, prepare it as `koseki up` does, and open dead letters as a worker does."""
    server = EmbeddedServer(settings.nats_folder)
    await server.start()
    running = settings.model_copy(update={"nats_url": server.url, "nats_server_name": server.name})
    try:
        await prepare_streams(running)
        connection = await open_connection(running, "worker", role="worker")
        yield await open_dead_letters(connection, running)
        await connection.close()
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def settings(tmp_path: Path) -> Settings:
    """Give an installation with the key of a record, and a dead letter."""
    settings = Settings(data=tmp_path)
    ensure_workspace_key(settings)
    settings.nats_folder.mkdir(parents=True)
    async with letters_of_one_that_starts(settings) as letters:
        await put(letters, "first")
    async with reached(settings, role="operator") as (_, connection):
        await (await record_keys(connection, settings)).ensure([RecordId(new_id())])
    return settings


async def record_keys(connection: object, settings: Settings) -> JetStreamKeyStore:
    source = settings.workspace_key_source
    keys = JetStreamKeyStore(connection, "main", source=source)  # type: ignore[arg-type]
    await keys.open()
    return keys


async def put(letters: JetStreamDeadLetters, origin: str) -> None:
    now = datetime.now(UTC)
    await letters.put(RejectedMessage(origin, "TOO_LARGE", "s", {}, origin.encode(), now))


def write_key(settings: Settings, keys: WorkspaceKeys) -> None:
    settings.workspace_key_file.write_text(keys.text(), encoding="ascii")


async def test_after_a_rotation_nothing_needs_the_older_line(settings: Settings) -> None:
    both = settings.workspace_key_source().with_next()
    write_key(settings, both)
    assert (await key_status(settings, progress=print))["rotation_is_due"]
    assert await rotate_keys(settings, progress=print) == {
        "rotated": 2,
        "active_version": 2,
        "keys_by_version": {"2": 1},
        "destroyed": 0,
        "letter_keys_by_version": {"2": 1},
        "rotation_is_due": False,
    }
    write_key(settings, WorkspaceKeys({2: both.by_version[2]}))
    assert not (await key_status(settings, progress=print))["rotation_is_due"]
    async with letters_of_one_that_starts(settings) as letters:
        await put(letters, "second")
        assert [letter.data for letter in await letters.list()] == [b"first", b"second"]


async def test_a_rotation_is_due_until_both_families_of_keys_are_done(settings: Settings) -> None:
    write_key(settings, settings.workspace_key_source().with_next())
    for open_keys, is_due in ((record_keys, True), (open_letter_keys, False)):
        async with reached(settings, role="operator") as (_, connection):
            assert await (await open_keys(connection, settings)).rotate() == 1
        assert (await key_status(settings, progress=print))["rotation_is_due"] == is_due
