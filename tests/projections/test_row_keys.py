"""A destroyed key leaves what keeps keys beside the ring, whatever the ring has room for (R14)."""

from __future__ import annotations

from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.keys.port import NoKey
from projections.row_keys import RowKeys
from tests.projections.histories import record_id
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
