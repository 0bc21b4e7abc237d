"""A destroyed key leaves what keeps keys beside the ring, whatever the ring has room for (R14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.keys.port import KeyAnswer, NoKey
from eventlog.memory import MemoryEventLog
from projections import customers, parking
from projections.errors import KeysNotHeld
from projections.fold import SEALED, fold_batch, memory_codec, row_codec
from projections.memory import MemoryTables
from projections.profile import PROFILES
from projections.row_keys import THREADS_MAX, RowKeys, in_thread
from projections.rows import SealedRows
from tests.projections.histories import History, identifier, record_id
from tests.support.waiting import until

GONE = record_id(1)


async def test_a_key_that_was_destroyed_is_not_given_when_the_ring_has_forgotten_the_word() -> None:
    store = MemoryKeyStore()
    others = [record_id(number) for number in range(2, 20)]
    await store.ensure([GONE, *others])
    ring = KeyRing(store, keys_max=4)
    keys = RowKeys(ring)
    await keys.fetch([GONE])
    assert isinstance(keys.key_of(GONE), bytes)
    await store.destroy([GONE])
    await until(lambda: not isinstance(keys.key_of(GONE), bytes))
    await keys.fetch(others)
    assert ring.held(GONE) is None
    assert not isinstance(keys.key_of(GONE), bytes)
    await keys.fetch([GONE])
    assert keys.key_of(GONE) is NoKey.DESTROYED
    await ring.close()


async def test_a_ring_that_did_not_follow_for_a_while_has_all_keys_asked_for_anew() -> None:
    store = MemoryKeyStore()
    await store.ensure([GONE])
    ring = KeyRing(store)
    keys = RowKeys(ring)
    await keys.fetch([GONE])
    await ring.close()
    await store.destroy([GONE])
    await ring.load([RecordId(record_id(2))])
    assert not isinstance(keys.key_of(GONE), bytes)
    await ring.close()


async def test_a_key_that_is_destroyed_while_it_is_loaded_is_not_held_beside_the_ring() -> None:
    class Waiting(MemoryKeyStore):
        """Answers when it is told to."""

        may_answer = asyncio.Event()

        async def load(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
            await self.may_answer.wait()
            return await super().load(record_ids)

    store = Waiting()
    others = [record_id(number) for number in range(2, 8)]
    await store.ensure([GONE, *others])
    ring = KeyRing(store, keys_max=3)
    keys = RowKeys(ring)
    store.may_answer.set()
    await keys.fetch([GONE])
    store.may_answer.clear()
    fetching = asyncio.create_task(keys.fetch([GONE, others[0]]))
    await asyncio.sleep(0)
    await store.destroy([GONE])
    await until(lambda: ring.held(GONE) is NoKey.DESTROYED)
    store.may_answer.set()
    await fetching
    await ring.load(others)
    assert ring.held(GONE) is None
    assert not isinstance(keys.key_of(GONE), bytes)
    assert isinstance(keys.key_of(others[0]), bytes)
    await ring.close()


@pytest.mark.parametrize("make", [row_codec, memory_codec])
async def test_what_was_made_of_a_destroyed_key_leaves_the_codec(
    make: Callable[[MemoryEventLog], SealedRows],
) -> None:
    store = MemoryKeyStore()
    other = record_id(2)
    await store.ensure([GONE, other])
    ring = KeyRing(store)
    codec = make(MemoryEventLog("w", keys=ring))
    await codec.fetch([GONE, other])
    profile = {"identifiers": {}, "traits": {"city": "Kyoto"}}
    for record in (GONE, other):
        codec.write(PROFILES, record.encode(), profile)
    assert codec._ciphers.keys() == {GONE, other}
    await store.destroy([GONE])
    await until(lambda: ring.held(GONE) is NoKey.DESTROYED)
    assert codec._ciphers.keys() == {other}
    await ring.close()
    await ring.load([])
    assert not codec._ciphers, "a ring that did not follow may not know all"
    await ring.close()


async def test_keys_come_where_all_who_read_wait_and_loading_takes_a_thread() -> None:
    class ReadInAThread(MemoryKeyStore):
        """Its workspace key is read from a file, in a thread."""

        async def load(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
            await asyncio.to_thread(lambda: None)
            return await super().load(record_ids)

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    store = ReadInAThread()
    await store.ensure([GONE])
    ring = KeyRing(store)
    codec = SealedRows({}, RowKeys(ring))
    async with asyncio.timeout(10):
        reads = [in_thread(partial(codec.need, [GONE]), codec) for _ in range(THREADS_MAX)]
        await asyncio.gather(*reads)
    await ring.close()


@pytest.fixture
async def ring() -> AsyncIterator[KeyRing]:
    ring = KeyRing(MemoryKeyStore())
    yield ring
    await ring.close()


def linked(people: int) -> History:
    history = History()
    history.rules()
    for number in range(1, people + 1):
        history.link(number, identifier(f"{number}@shop.example"))
    return history


async def test_who_has_no_key_holds_up_nobody(ring: KeyRing) -> None:
    history = linked(2)
    history.spoil(len(history.entries))
    await ring.store.ensure([record_id(1)])
    rows = MemoryTables(SealedRows(SEALED, RowKeys(ring)))
    await in_thread(partial(fold_batch, rows, history.entries), rows.codec)
    assert customers.root(rows, record_id(1)) == record_id(1)
    assert parking.parked_with(rows, record_id(2), record_id(2)) == len(history.entries)


async def test_a_key_is_found_as_soon_as_it_is_made(ring: KeyRing) -> None:
    history = linked(1)
    rows = MemoryTables(SealedRows(SEALED, RowKeys(ring)))
    await in_thread(partial(rows.codec.need, [record_id(1)]), rows.codec)
    with pytest.raises(KeysNotHeld):
        await in_thread(partial(fold_batch, rows, history.entries), rows.codec)
    await ring.store.ensure([record_id(1)])
    await in_thread(partial(fold_batch, rows, history.entries), rows.codec)
    assert customers.root(rows, record_id(1)) == record_id(1)
