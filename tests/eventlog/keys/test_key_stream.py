"""What the key stream must be, and what the server does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domain.ids import RecordId
from eventlog import server
from eventlog.connection import Connection
from eventlog.errors import UnsafeStream
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import KeyDraft, KeyStream, refuse_encryption
from eventlog.keys.port import NoKey
from eventlog.server import EmbeddedServer
from tests.support.events import new_id
from tests.support.nats import connect, new_workspace
from tests.support.sealed import Source


async def made(connection: Connection, **changes: Any) -> KeyStream:
    """Make a key stream with other settings."""
    workspace = new_workspace()
    stream = KeyStream(JetStreamApi(connection), workspace)
    config = {
        "name": stream.name,
        "subjects": [f"koseki.{workspace}.key.*.*"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "allow_atomic": True,
        "allow_direct": True,
    }
    await JetStreamApi(connection).call(f"STREAM.CREATE.{stream.name}", config | changes)
    return stream


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"deny_delete": True}, "deny_delete must be False"),
        ({"deny_purge": True}, "deny_purge must be False"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject must be unlimited"),
        ({"allow_rollup_hdrs": True}, "allow_rollup_hdrs must not be set"),
        ({"max_age": 10**12}, "max_age must be unlimited"),
        ({"storage": "memory"}, "storage must be file"),
        ({"compression": "s2"}, "compression must be none"),
    ],
)
async def test_a_stream_that_loses_keys_or_cannot_erase_is_refused(
    connection: Connection, changes: dict[str, Any], said: str
) -> None:
    stream = await made(connection, **changes)
    with pytest.raises(UnsafeStream, match=said):
        await stream.open(replicas=1)


async def test_the_form_of_a_kv_bucket_is_refused(connection: Connection) -> None:
    stream = await made(
        connection,
        max_msgs_per_subject=1,
        deny_delete=True,
        allow_rollup_hdrs=True,
    )
    with pytest.raises(UnsafeStream, match="deny_delete must be False"):
        await stream.open(replicas=1)


async def test_a_stream_that_is_as_it_must_be_is_taken(connection: Connection) -> None:
    stream = await made(connection)
    await stream.open(replicas=1)
    with pytest.raises(UnsafeStream, match="num_replicas must be at least 3"):
        await stream.open(replicas=3)


async def test_a_server_that_encrypts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_key = 'sync_interval: always\n  cipher: aes\n  key: "not so secret"'
    monkeypatch.setattr(
        server, "_CONFIG", server._CONFIG.replace("sync_interval: always", with_key)
    )
    encrypting = EmbeddedServer(tmp_path / "nats")
    await encrypting.start()
    try:
        connection = await connect(encrypting)
        refuse_encryption(tmp_path)
        await KeyStream(JetStreamApi(connection), "w").open(replicas=1)
        with pytest.raises(UnsafeStream, match="has jetstream"):
            refuse_encryption(tmp_path)
        await connection.close()
    finally:
        await encrypting.stop()


async def test_a_wrapped_key_that_was_changed_is_damage_of_its_record_alone(
    connection: Connection,
) -> None:
    workspace = new_workspace()
    store = JetStreamKeyStore(connection, workspace, source=Source())
    await store.open()
    bad, good = RecordId(new_id()), RecordId(new_id())
    stream = KeyStream(JetStreamApi(connection), workspace)
    assert await stream.write([KeyDraft(bad, "1", b"x" * 60, 0)])
    assert not await stream.write([KeyDraft(bad, "2", b"x" * 60, 0)])
    answers = await store.ensure([bad, good])
    assert answers[bad] is NoKey.DAMAGED
    assert isinstance(answers[good], bytes)


async def test_a_replica_that_lags_does_not_make_a_key_unmade(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JetStreamKeyStore(connection, new_workspace(), source=Source())
    await store.open()
    record_id = RecordId(new_id())
    made = await store.ensure([record_id])

    async def lag(_self: KeyStream, _owners: object) -> dict[RecordId, list[Any]]:
        return {}

    monkeypatch.setattr(KeyStream, "read", lag)
    assert await store.load([record_id]) == made
