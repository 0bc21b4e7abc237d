"""Backup, restore and rotation on three servers, each stream on all of them."""

from __future__ import annotations

from pathlib import Path

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import KeyStream
from eventlog.restoring import Restoration
from replay.archive import Archive
from replay.backup import back_up, restore
from tests.support.events import draft, new_id, new_record, store, traits
from tests.support.nats import new_workspace
from tests.support.sealed import Source

REPLICAS = 3


async def test_a_log_is_restored_at_its_revisions(connection: Connection, tmp_path: Path) -> None:
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream(replicas=REPLICAS)
    for size in (1, 30, 1, 1, 700, 700, 2):
        await store(log, *(draft(new_record(), traits(n=n)) for n in range(size)))
    before = [entry async for batch in log.read() for entry in batch]
    archive = Archive(tmp_path, log.workspace)
    await back_up(log, archive)
    await JetStreamApi(connection).call(f"STREAM.DELETE.koseki-{log.workspace}-log")
    await restore(archive, Restoration(connection, log.workspace), log, replicas=REPLICAS)
    await log.ensure_stream(replicas=REPLICAS)
    assert [entry async for batch in log.read() for entry in batch] == before


async def test_the_workspace_key_is_rotated(connection: Connection) -> None:
    source, workspace = Source(), new_workspace()
    keys = JetStreamKeyStore(connection, workspace, source=source)
    await keys.open(replicas=REPLICAS)
    ids = [RecordId(new_id()) for _ in range(2_500)]
    made = await keys.ensure(ids)
    source.renew()
    assert await keys.rotate() == len(ids)
    assert await KeyStream(JetStreamApi(connection), workspace).page("1", 0, size=10) == []
    assert await keys.load(ids) == made
    assert (await keys.census()).by_version == {2: len(ids)}
