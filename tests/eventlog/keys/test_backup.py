"""Key backups: restored where keys are missing, never where they were destroyed, never too late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.errors import WorkspaceKeyMissing
from eventlog.keys.backup import KeyBackupRefused, back_up_keys, destroy_expired, restore_keys
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.port import NoKey
from eventlog.server import EmbeddedServer
from tests.contracts.key_store import some_ids
from tests.support.nats import connect
from tests.support.sealed import Source

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest_asyncio.fixture
async def far(own_server: EmbeddedServer) -> AsyncIterator[Connection]:
    connection = await connect(own_server)
    yield connection
    await connection.close()


async def opened(connection: Connection, source: Source, workspace: str) -> JetStreamKeyStore:
    store = JetStreamKeyStore(connection, workspace, source=source)
    await store.open()
    return store


async def test_a_restore_gives_every_key_back_and_none_that_was_destroyed(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    source = Source()
    store = await opened(connection, source, "kept")
    ids = some_ids(1_500)
    made = await store.ensure(ids)
    await store.destroy(ids[:3])
    file = await back_up_keys(store, tmp_path, "kept", now=NOW, retention=WEEK)
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(await store.destroyed()) == sorted(ids[:3])
    there = await opened(far, source, "kept")
    assert await there.destroyed() == []
    await there.destroy(ids[3:5])
    newer = await there.ensure(ids[5:6])
    done = await restore_keys(there, file, "kept", now=NOW)
    assert done == (1_494, 3)
    again = await restore_keys(there, file, "kept", now=NOW)
    assert again == (0, 3), "what is interrupted can be done again"
    answers = await there.load(ids)
    assert [answers[r] for r in ids[:5]] == [NoKey.DESTROYED] * 5
    assert answers[ids[5]] == newer[ids[5]], "a key that is in use stays"
    assert {r: answers[r] for r in ids[6:]} == {r: made[r] for r in ids[6:]}


async def test_keys_of_an_older_workspace_key_are_restored_under_the_newest(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    source = Source()
    store = await opened(connection, source, "older")
    ids = some_ids(10)
    made = await store.ensure(ids)
    file = await back_up_keys(store, tmp_path, "older", now=NOW, retention=WEEK)
    source.renew()
    there = await opened(far, source, "older")
    await restore_keys(there, file, "older", now=NOW)
    assert await there.load(ids) == made
    assert (await there.census()) == (2, {2: 10}, 0)
    forgetful = Source()
    forgetful.keys = type(source.keys)({2: source.keys.by_version[2]})
    await far.request("$JS.API.STREAM.DELETE.koseki-older-keys", timeout_seconds=5)
    there = await opened(far, forgetful, "older")
    with pytest.raises(WorkspaceKeyMissing, match="version 1"):
        await restore_keys(there, file, "older", now=NOW)
    stranger = await opened(far, Source(), "stranger")
    other = file.rename(tmp_path / "other")
    other.write_bytes(other.read_bytes())
    with pytest.raises(KeyBackupRefused, match="not a key backup of workspace"):
        await restore_keys(stranger, other, "stranger", now=NOW)


async def test_a_backup_of_another_workspace_key_is_refused(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    store = await opened(connection, Source(), "foreign")
    await store.ensure(some_ids(2))
    file = await back_up_keys(store, tmp_path, "foreign", now=NOW, retention=WEEK)
    with pytest.raises(WorkspaceKeyMissing, match="another workspace key"):
        await restore_keys(await opened(far, Source(), "foreign"), file, "foreign", now=NOW)


async def test_a_backup_whose_time_is_up_is_refused_and_destroyed(
    connection: Connection, tmp_path: Path
) -> None:
    store = await opened(connection, Source(), "late")
    await store.ensure([RecordId(i) for i in some_ids(2)])
    old = await back_up_keys(store, tmp_path, "late", now=NOW, retention=WEEK)
    new = await back_up_keys(store, tmp_path, "late", now=NOW + WEEK, retention=WEEK)
    with pytest.raises(KeyBackupRefused, match="should be gone"):
        await restore_keys(store, old, "late", now=NOW + WEEK)
    assert destroy_expired(tmp_path, NOW + WEEK - timedelta(seconds=1)) == []
    assert destroy_expired(tmp_path, NOW + WEEK) == [old]
    assert new.exists()
    assert not old.exists()


async def test_a_damaged_file_is_refused_before_anything_is_restored(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    source = Source()
    store = await opened(connection, source, "hurt")
    await store.ensure(some_ids(3))
    file = await back_up_keys(store, tmp_path, "hurt", now=NOW, retention=WEEK)
    whole = file.read_bytes()
    there = await opened(far, source, "hurt")
    for changed in (b"", whole[:-1], whole[:200], whole.replace(b"owner", b"ownre", 1)):
        file.write_bytes(changed if changed != whole[:-1] else whole[:-9])
        with pytest.raises(KeyBackupRefused):
            await restore_keys(there, file, "hurt", now=NOW)
    assert (await there.census()).by_version == {}
