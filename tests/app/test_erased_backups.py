"""No restore brings back the key of somebody whom the log says is erased (R14).

The backups here are the worst there can be: the keys' is older than the erasure, and the log's was
made while the steward had not destroyed anything yet.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from app.backing_up import back_up_log, restore_log
from app.keeping_keys import put_back_keys, save_keys
from app.reaching import reached
from app.settings import Settings, ensure_pepper, ensure_workspace_key
from domain.erasure_events import ErasureRequested
from domain.ids import RecordId, Stream
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import NoKey
from tests.support.events import draft, new_record, store, traits

pytestmark = pytest.mark.timeout(180)


def settings_in(folder: Path) -> Settings:
    settings = Settings(data=folder)
    ensure_pepper(settings)
    ensure_workspace_key(settings)
    return settings


async def opened(connection: object, settings: Settings) -> tuple[JetStreamEventLog, KeyRing]:
    source = settings.workspace_key_source
    keys = JetStreamKeyStore(connection, "main", source=source)  # type: ignore[arg-type]
    await keys.open()
    ring = KeyRing(keys)
    log = JetStreamEventLog(connection, "main", keys=ring)  # type: ignore[arg-type]
    await log.ensure_stream()
    return log, ring


async def test_what_the_log_says_is_erased_stays_so_through_every_restore(tmp_path: Path) -> None:
    settings, log_backup = settings_in(tmp_path / "data"), tmp_path / "log"
    settings.nats_folder.mkdir(parents=True)
    kept, gone = new_record(), new_record()
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        await store(log, draft(kept, traits(a=1)))
        first = await store(log, draft(gone, traits(a=1)))
    saved = await save_keys(
        settings, tmp_path / "keys", retention=timedelta(days=1), progress=print
    )
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        erased = ErasureRequested(root=gone.key, component=(gone.key,))
        await store(log, draft(gone, erased), after=first)
    await back_up_log(settings, log_backup, progress=print)

    fresh = tmp_path / "fresh"
    shutil.copytree(settings.data / "secrets", fresh / "secrets")
    restored = settings_in(fresh)
    done = await restore_log(restored, log_backup, progress=print)
    assert done["destroyed_keys"] == 1
    put_back = await put_back_keys(restored, Path(saved["file"]), progress=print)
    assert put_back["restored"] == 1
    async with reached(restored, role="operator") as (_, connection):
        log, ring = await opened(connection, restored)
        found = await ring.load([record_of(kept), record_of(gone)])
        assert not isinstance(found[record_of(kept)], NoKey)
        assert found[record_of(gone)] is NoKey.DESTROYED
        [before, _] = await log.load(gone)
        assert before.event is not None
        assert before.event.is_erased
        await ring.close()


async def test_keys_put_back_on_a_log_that_went_on_do_not_undo_its_erasures(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    settings.nats_folder.mkdir(parents=True)
    gone = new_record()
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        first = await store(log, draft(gone, traits(a=1)))
    saved = await save_keys(
        settings, tmp_path / "keys", retention=timedelta(days=1), progress=print
    )
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        erased = ErasureRequested(root=gone.key, component=(gone.key,))
        await store(log, draft(gone, erased), after=first)
        await connection.request("$JS.API.STREAM.DELETE.koseki-main-keys", b"", timeout_seconds=5)
    put_back = await put_back_keys(settings, Path(saved["file"]), progress=print)
    assert put_back["restored"] == 0


def record_of(stream: Stream) -> RecordId:
    return RecordId(stream.key)
