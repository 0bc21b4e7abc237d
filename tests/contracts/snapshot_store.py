"""What every implementation of `eventlog.snapshots.port.SnapshotStore` must do.

An adapter gives its `store`, the `ring` of keys that it was made with, and `damage`, which flips a
bit of a stored snapshot.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.port import Head
from eventlog.snapshots.port import Snapshot, SnapshotStore
from tests.support.events import new_id

SCHEMA = "a1b2"
Damage = Callable[[RecordId], Awaitable[None]]


async def some_records(ring: KeyRing, how_many: int) -> list[RecordId]:
    """Name records that have keys, as every record has from its first event on."""
    records = [RecordId(new_id()) for _ in range(how_many)]
    await ring.ensure(known=(), new=records)
    return records


def snapshot(record_id: RecordId, version: int = 7, *, size: int = 300) -> Snapshot:
    head = Head(revision=version * 10, version=version, digest=os.urandom(32))
    return Snapshot(record_id, SCHEMA, head, os.urandom(size))


class SnapshotStoreContract:
    """Run by one adapter for each implementation."""

    async def test_what_was_saved_is_given_back(self, store: SnapshotStore, ring: KeyRing) -> None:
        one, two, none = await some_records(ring, 3)
        saved = {one: snapshot(one), two: snapshot(two, size=0)}
        await store.save(saved.values())
        assert await store.load([one, two, none, one], schema=SCHEMA) == saved
        assert await store.load([], schema=SCHEMA) == {}

    async def test_the_newest_takes_the_place_of_the_one_before(
        self, store: SnapshotStore, ring: KeyRing
    ) -> None:
        [record] = await some_records(ring, 1)
        await store.save([snapshot(record, 1)])
        newest = snapshot(record, 2)
        await store.save([newest])
        assert await store.load([record], schema=SCHEMA) == {record: newest}

    async def test_a_snapshot_of_another_schema_is_none(
        self, store: SnapshotStore, ring: KeyRing
    ) -> None:
        [record] = await some_records(ring, 1)
        await store.save([snapshot(record)])
        assert await store.load([record], schema="another") == {}

    async def test_many_are_saved_and_loaded_at_once(
        self, store: SnapshotStore, ring: KeyRing
    ) -> None:
        records = await some_records(ring, 1_300)
        saved = {record: snapshot(record, size=8_000) for record in records}
        await store.save(saved.values())
        assert await store.load(records, schema=SCHEMA) == saved

    async def test_what_was_removed_is_gone_and_can_be_removed_again(
        self, store: SnapshotStore, ring: KeyRing
    ) -> None:
        gone, never, kept = await some_records(ring, 3)
        saved = snapshot(kept)
        await store.save([snapshot(gone), saved])
        await store.remove([gone, never])
        await store.remove([gone])
        assert await store.load([gone, never, kept], schema=SCHEMA) == {kept: saved}

    async def test_nothing_is_given_or_saved_of_a_record_whose_key_is_destroyed(
        self, store: SnapshotStore, ring: KeyRing
    ) -> None:
        before, after, kept = await some_records(ring, 3)
        await store.save([snapshot(before)])
        await ring.destroy([before, after])
        saved = snapshot(kept)
        await store.save([snapshot(after), saved])
        assert await store.load([before, after, kept], schema=SCHEMA) == {kept: saved}

    async def test_a_damaged_snapshot_is_none(
        self, store: SnapshotStore, ring: KeyRing, damage: Damage
    ) -> None:
        broken, whole = await some_records(ring, 2)
        saved = {record: snapshot(record) for record in (broken, whole)}
        await store.save(saved.values())
        await damage(broken)
        assert await store.load([broken, whole], schema=SCHEMA) == {whole: saved[whole]}

    async def test_whoever_saves_at_the_same_time_leaves_one_whole_snapshot(
        self, store: SnapshotStore, ring: KeyRing
    ) -> None:
        [record] = await some_records(ring, 1)
        tried = [snapshot(record, version) for version in range(1, 9)]
        await asyncio.gather(*(store.save([one]) for one in tried))
        assert (await store.load([record], schema=SCHEMA))[record] in tried
