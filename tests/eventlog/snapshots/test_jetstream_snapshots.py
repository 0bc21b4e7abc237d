"""The contract on a real server, the stream's settings, and what rests on its disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable, UnsafeStream
from eventlog.jetstream_api import JetStreamApi, checked
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.server import EmbeddedServer
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from tests.contracts.snapshot_store import (
    SCHEMA,
    Damage,
    SnapshotStoreContract,
    snapshot,
    some_records,
)
from tests.support.nats import connect, new_workspace
from tests.support.sealed import Source, files_with


async def opened(connection: Connection, workspace: str) -> tuple[JetStreamSnapshotStore, KeyRing]:
    keys = JetStreamKeyStore(connection, workspace, source=Source())
    await keys.open()
    ring = KeyRing(keys)
    store = JetStreamSnapshotStore(connection, workspace, keys=ring)
    await store.open()
    return store, ring


class TestJetStreamSnapshotStore(SnapshotStoreContract):
    @pytest_asyncio.fixture
    async def parts(
        self, connection: Connection
    ) -> AsyncIterator[tuple[JetStreamSnapshotStore, KeyRing]]:
        store, ring = await opened(connection, new_workspace())
        yield store, ring
        await ring.close()

    @pytest.fixture
    def store(self, parts: tuple[JetStreamSnapshotStore, KeyRing]) -> JetStreamSnapshotStore:
        return parts[0]

    @pytest.fixture
    def ring(self, parts: tuple[JetStreamSnapshotStore, KeyRing]) -> KeyRing:
        return parts[1]

    @pytest.fixture
    def damage(self, connection: Connection, store: JetStreamSnapshotStore) -> Damage:
        async def damage(record_id: RecordId) -> None:
            query = {"last_by_subj": store._prefix + record_id}
            stored = await JetStreamApi(connection).message(store.name, query)
            assert stored is not None
            body = bytes([*stored.body[:-1], stored.body[-1] ^ 1])
            headers = {n: v for n, v in stored.headers.items() if n.startswith("koseki-")}
            answer = await connection.request(
                stored.subject, body, headers=headers, timeout_seconds=5
            )
            checked(answer.data)

        return damage

    async def test_what_cannot_be_stored_is_left_out(
        self, connection: Connection, store: JetStreamSnapshotStore, ring: KeyRing
    ) -> None:
        large, usual = await some_records(ring, 2)
        saved = snapshot(usual)
        await store.save([snapshot(large, size=connection.payload_bytes_max), saved])
        assert await store.load([large, usual], schema=SCHEMA) == {usual: saved}

    async def test_only_the_newest_is_kept_and_opening_again_is_safe(
        self, connection: Connection, store: JetStreamSnapshotStore, ring: KeyRing
    ) -> None:
        records = await some_records(ring, 3)
        for version in range(1, 4):
            await store.save([snapshot(record, version) for record in records])
        await store.open()
        info = await JetStreamApi(connection).call(f"STREAM.INFO.{store.name}")
        assert info["state"]["messages"] == len(records)


async def test_a_stream_that_would_forget_or_could_not_erase_is_refused(
    connection: Connection,
) -> None:
    workspace = new_workspace()
    store, ring = await opened(connection, workspace)
    api = JetStreamApi(connection)
    config = (await api.call(f"STREAM.INFO.{store.name}"))["config"]
    await api.call(f"STREAM.UPDATE.{store.name}", {**config, "max_age": 10**12})
    with pytest.raises(UnsafeStream, match="max_age must be unlimited"):
        await store.open()
    with pytest.raises(UnsafeStream, match="num_replicas must be at least 3"):
        await store.open(replicas=3)
    await ring.close()


async def test_nothing_of_a_state_rests_open_and_what_is_removed_is_overwritten(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    connection = await connect(own_server)
    store, ring = await opened(connection, new_workspace())
    gone, kept = await some_records(ring, 2)
    planted = b"planted-state-of-a-person"
    for record in (gone, kept):
        await store.save([replace(snapshot(record), state=planted * 20)])
    folder = tmp_path / "nats"
    assert files_with(folder, gone.encode())
    assert not files_with(folder, planted)
    sealed = {r: await _stored_body(connection, store, r) for r in (gone, kept)}
    assert files_with(folder, sealed[gone])
    await ring.destroy([gone])
    await store.remove([gone])
    assert not files_with(folder, sealed[gone])
    assert files_with(folder, sealed[kept])
    assert list(await store.load([gone, kept], schema=SCHEMA)) == [kept]
    await ring.close()
    await connection.close()


async def test_a_server_that_is_away_is_said_to_be_away(own_server: EmbeddedServer) -> None:
    connection = await connect(own_server)
    store, ring = await opened(connection, new_workspace())
    [record] = await some_records(ring, 1)
    await own_server.stop()
    with pytest.raises(LogUnavailable):
        await store.load([record], schema=SCHEMA)
    with pytest.raises(LogUnavailable):
        await store.save([snapshot(record)])
    with pytest.raises(LogUnavailable):
        await store.remove([record])
    await ring.close()
    await connection.close()


async def _stored_body(
    connection: Connection, store: JetStreamSnapshotStore, record_id: RecordId
) -> bytes:
    query = {"last_by_subj": store._prefix + record_id}
    stored = await JetStreamApi(connection).message(store.name, query)
    assert stored is not None
    return stored.body
