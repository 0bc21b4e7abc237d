"""Key backups: restored where keys are missing, never where they were destroyed, never too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable, WorkspaceKeyMissing
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.backup import (
    UNFINISHED_MAX,
    KeyBackupRefused,
    back_up_keys,
    destroy_expired,
    restore_keys,
)
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import KeyMessage, KeyStream
from eventlog.keys.port import NoKey
from eventlog.keys.turn_over import TurnOver
from eventlog.server import EmbeddedServer
from tests.contracts.key_store import some_ids
from tests.support.nats import connect
from tests.support.sealed import Source

PAGES_KEYS = 5_000
"""More than are on their way to a reader who has one page."""

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
    assert (await there.census()) == (2, 2, {2: 10}, 0)
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
    ids = some_ids(3)
    await store.ensure(ids)
    await store.destroy(ids[:1])
    file = await back_up_keys(store, tmp_path, "foreign", now=NOW, retention=WEEK)
    there = await opened(far, Source(), "foreign")
    with pytest.raises(WorkspaceKeyMissing, match="another workspace key"):
        await restore_keys(there, file, "foreign", now=NOW)
    assert await there.destroyed() == [], "not even what the file says is destroyed"


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


class Disturbed(JetStreamKeyStore):
    """A store of which the first page is read before something else is done."""

    meanwhile: Callable[[], Awaitable[object]]

    async def messages(self) -> AsyncGenerator[list[KeyMessage], None]:
        async with aclosing(super().messages()) as pages:
            yield await anext(pages)
            await self.meanwhile()
            async for page in pages:
                yield page


async def disturbed(
    connection: Connection,
    source: Source,
    workspace: str,
    *,
    meanwhile: Callable[[], Awaitable[object]],
) -> Disturbed:
    store = Disturbed(connection, workspace, source=source)
    store.meanwhile = meanwhile
    await store.open()
    return store


async def test_a_backup_needs_only_the_newest_workspace_key_of_a_rotation_meanwhile(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    source = Source()
    other = await opened(connection, source, "rotated")
    made = dict(await other.ensure(some_ids(PAGES_KEYS)))

    async def rotate_once() -> None:
        if source.keys.newest == 1:
            source.renew()
            await other.rotate()
        made.update(await other.ensure(some_ids(10)))

    store = await disturbed(connection, source, "rotated", meanwhile=rotate_once)
    file = await back_up_keys(store, tmp_path / "keys", "rotated", now=NOW, retention=WEEK)
    newest = Source()
    newest.keys = type(source.keys)({2: source.keys.by_version[2]})
    there = await opened(far, newest, "rotated")
    assert await restore_keys(there, file, "rotated", now=NOW) == (PAGES_KEYS + 20, 0)
    assert await there.load(made) == made
    assert list((tmp_path / "keys").iterdir()) == [file]


async def test_a_backup_fails_where_keys_are_rotated_each_time(
    connection: Connection, tmp_path: Path
) -> None:
    source = Source()
    other = await opened(connection, source, "always")
    await other.ensure(some_ids(5))

    async def rotate() -> None:
        source.renew()
        await other.rotate()

    store = await disturbed(connection, source, "always", meanwhile=rotate)
    with pytest.raises(LogUnavailable, match="was rotated each time"):
        await back_up_keys(store, tmp_path / "keys", "always", now=NOW, retention=WEEK)
    assert list((tmp_path / "keys").iterdir()) == []


async def test_a_backup_holds_keys_that_are_moved_one_by_one_meanwhile(
    connection: Connection, far: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()
    late, other = [await opened(connection, source, "moved") for _ in range(2)]
    source.renew()
    await other.rotate()
    made = dict(await other.ensure(some_ids(PAGES_KEYS)))

    async def die(*_: object) -> None:
        """Hear of no rotation any more."""

    monkeypatch.setattr(late, "_take_up", die)
    made.update(await late.ensure(some_ids(5)))
    store = await disturbed(connection, source, "moved", meanwhile=other.rotate)
    file = await back_up_keys(store, tmp_path / "keys", "moved", now=NOW, retention=WEEK)
    assert (await other.census()).by_version == {2: len(made)}
    there = await opened(far, source, "moved")
    await restore_keys(there, file, "moved", now=NOW)
    assert await there.load(made) == made


async def test_a_backup_goes_on_where_keys_were_turned_over_meanwhile(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    source, api = Source(), JetStreamApi(connection)
    made = await (await opened(connection, source, "turned")).ensure(some_ids(PAGES_KEYS))
    places = KeyStream(api, "turned").places

    async def turn_over() -> None:
        [place] = await places.find()
        await places.close(place)
        await TurnOver(api, places).finish()

    store = await disturbed(connection, source, "turned", meanwhile=turn_over)
    file = await back_up_keys(store, tmp_path / "keys", "turned", now=NOW, retention=WEEK)
    there = await opened(far, source, "turned")
    await restore_keys(there, file, "turned", now=NOW)
    assert await there.load(made) == made


async def test_two_backups_at_once_are_both_whole(
    connection: Connection, far: Connection, tmp_path: Path
) -> None:
    source, both = Source(), asyncio.Barrier(2)
    await (await opened(connection, source, "twice")).ensure(some_ids(3_000))
    stores = [await disturbed(connection, source, "twice", meanwhile=both.wait) for _ in range(2)]
    files = await asyncio.gather(
        *(
            back_up_keys(
                store, tmp_path / "keys", "twice", now=NOW + timedelta(seconds=n), retention=WEEK
            )
            for n, store in enumerate(stores)
        )
    )
    there = await opened(far, source, "twice")
    for file, restored in zip(files, (3_000, 0), strict=True):
        assert await restore_keys(there, file, "twice", now=NOW) == (restored, 0)


async def test_a_backup_that_is_not_finished_leaves_no_keys(
    connection: Connection, tmp_path: Path
) -> None:
    source, folder = Source(), tmp_path / "keys"
    await (await opened(connection, source, "ended")).ensure(some_ids(3))
    begun: list[Path] = []

    async def fail() -> None:
        begun.extend(folder.iterdir())
        assert [path.stat().st_mode & 0o777 for path in begun] == [0o600]
        raise OSError("the disk is full")

    store = await disturbed(connection, source, "ended", meanwhile=fail)
    with pytest.raises(OSError, match="full"):
        await back_up_keys(store, folder, "ended", now=NOW, retention=WEEK)
    assert list(folder.iterdir()) == []
    [killed], earlier = begun, folder / "keys.unfinished"
    for path in (killed, earlier):
        path.write_bytes(b"keys")
    until = NOW + UNFINISHED_MAX
    assert destroy_expired(folder, until - timedelta(seconds=1)) == [earlier], "of older releases"
    assert destroy_expired(folder, until) == [killed]
    assert list(folder.iterdir()) == []
