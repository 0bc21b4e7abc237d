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
from app.settings import (
    Settings,
    ensure_attestation_key,
    ensure_pepper,
    ensure_workspace_key,
)
from domain.erasure_events import ErasureRequested
from domain.ids import RecordId, Stream
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.backup import KeyBackupRefused
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import NoKey
from eventlog.restoring import RestoreRefused
from replay.attestation import Attestation
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


async def has_key(settings: Settings, stream: Stream) -> bool:
    async with reached(settings, role="operator") as (_, connection):
        _, ring = await opened(connection, settings)
        found = await ring.load([record_of(stream)])
        await ring.close()
        return isinstance(found[record_of(stream)], bytes)


async def test_a_refused_restore_destroys_no_key_of_the_log_that_is_there(tmp_path: Path) -> None:
    """The backup is of a copy of the workspace, in which the person was erased."""
    settings, copy, log_backup = settings_in(tmp_path / "data"), tmp_path / "copy", tmp_path / "log"
    settings.nats_folder.mkdir(parents=True)
    kept = new_record()
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        await store(log, draft(kept, traits(a=1)))
    shutil.copytree(settings.data, copy)
    async with reached(settings_in(copy), role="operator") as (_, connection):
        _, ring = await opened(connection, settings_in(copy))
        await ring.destroy([record_of(kept)])
    assert (await back_up_log(settings_in(copy), log_backup, progress=print))["destroyed_keys"] == 1
    with pytest.raises(RestoreRefused):
        await restore_log(settings, log_backup, progress=print)
    assert await has_key(settings, kept)


async def test_a_refused_file_of_keys_destroys_none_that_the_log_says_is_erased(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path / "data")
    settings.nats_folder.mkdir(parents=True)
    gone = new_record()
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        first = await store(log, draft(gone, traits(a=1)))
        erased = ErasureRequested(root=gone.key, component=(gone.key,))
        await store(log, draft(gone, erased), after=first)
    damaged = tmp_path / "keys"
    damaged.write_bytes(b"nothing")
    with pytest.raises(KeyBackupRefused):
        await put_back_keys(settings, damaged, progress=print)
    assert await has_key(settings, gone)


async def test_the_attestation_of_a_backup_signs_the_digest_of_its_last_event(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path / "data")
    ensure_attestation_key(settings)
    settings.nats_folder.mkdir(parents=True)
    async with reached(settings, role="operator") as (_, connection):
        log, _ = await opened(connection, settings)
        await store(log, draft(new_record(), traits(a=1)))
        [last] = [entry async for batch in log.read() for entry in batch]
    backed_up = await back_up_log(settings, tmp_path / "log", progress=print)
    signed = attestation_in(backed_up["attestation"])
    assert (signed.revision, signed.event_digest) == (last.revision, last.digest.hex())


def attestation_in(file: str) -> Attestation:
    return Attestation.model_validate_json(Path(file).read_bytes())


def record_of(stream: Stream) -> RecordId:
    return RecordId(stream.key)
