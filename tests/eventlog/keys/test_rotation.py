"""Rotations of the workspace key, and those who make keys and have not heard of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import KeyDraft, KeyMessage
from eventlog.keys.workspace_key import WorkspaceKeys
from tests.support.events import new_id
from tests.support.nats import new_workspace
from tests.support.sealed import Source


async def opened(connection: Connection, workspace: str, source: Source) -> JetStreamKeyStore:
    store = JetStreamKeyStore(connection, workspace, source=source)
    await store.open()
    return store


def some_ids(how_many: int) -> list[RecordId]:
    return [RecordId(new_id()) for _ in range(how_many)]


async def test_who_has_not_heard_of_a_rotation_makes_keys_under_its_version(
    connection: Connection,
) -> None:
    workspace, source = new_workspace(), Source()
    rotating, late = [await opened(connection, workspace, source) for _ in range(2)]
    await late.ensure(some_ids(3))
    source.renew()
    assert await rotating.rotate() == 3
    await late.ensure(some_ids(2))
    census = await rotating.census()
    assert (census.by_version, census.rotation_is_due) == ({2: 5}, False)


async def test_a_key_that_a_rotation_overtook_needs_no_older_version_and_the_next_one_erases_that(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, source = new_workspace(), Source()
    rotating, late = [await opened(connection, workspace, source) for _ in range(2)]
    await rotating.ensure(some_ids(3))
    write, read = late._stream.write, late._stream.read

    async def write_late(drafts: Sequence[KeyDraft]) -> bool:
        monkeypatch.setattr(late._stream, "write", write)
        source.renew()
        await rotating.rotate()
        return await write(drafts)

    async def refuse(_sequences: object) -> None:
        raise AssertionError("a host erases nothing")

    async def lag(_owners: object) -> dict[RecordId, list[KeyMessage]]:
        monkeypatch.setattr(late._stream, "read", read)
        return {}

    monkeypatch.setattr(late._stream, "read", lag)
    monkeypatch.setattr(late._stream, "write", write_late)
    monkeypatch.setattr(late._stream, "erase", refuse)
    [record] = some_ids(1)
    made = await late.ensure([record])
    census = await rotating.census()
    assert (census.by_version, census.rotation_is_due) == ({1: 1, 2: 4}, True)
    both, source.keys = source.keys, WorkspaceKeys({2: source.keys.by_version[2]})
    assert await (await opened(connection, workspace, source)).load([record]) == made
    source.keys = both
    assert await rotating.rotate() == 1
    census = await rotating.census()
    assert (census.by_version, census.rotation_is_due) == ({2: 4}, False)
    assert await rotating.load([record]) == made


async def test_a_rotation_is_due_from_the_new_version_on_also_where_there_is_no_key(
    connection: Connection,
) -> None:
    workspace, source = new_workspace(), Source()
    assert not (await (await opened(connection, workspace, source)).census()).rotation_is_due
    source.renew()
    store = await opened(connection, workspace, source)
    assert (await store.census()).rotation_is_due
    await store.rotate()
    assert not (await store.census()).rotation_is_due
