"""What a process holds of keys, and that nothing of a destroyed one is left in it (R4)."""

from __future__ import annotations

import gc
from collections.abc import Collection

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId
from eventlog.keys.ciphers import Ciphers
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.keys.port import DataKey, KeyAnswer, NoKey
from tests.support.events import new_id
from tests.support.waiting import until


def key_of(answer: KeyAnswer) -> DataKey:
    assert not isinstance(answer, NoKey)
    return answer


async def test_keys_that_are_all_held_are_given_without_asking() -> None:
    store = MemoryKeyStore()
    ring = KeyRing(store)
    first, second = RecordId(new_id()), RecordId(new_id())
    assert ring.held_all([]) is None, "nobody follows yet what is destroyed"
    made = await ring.ensure(known=[], new=[first])
    store.is_available = False
    assert ring.held_all([first]) == made
    assert ring.held_all([first, second]) is None
    await ring.close()


async def test_a_cipher_is_made_once_and_goes_with_its_key() -> None:
    store = MemoryKeyStore()
    ring = KeyRing(store)
    record_id = RecordId(new_id())
    key = key_of((await ring.ensure(known=[], new=[record_id]))[record_id])
    cipher = ring.cipher(record_id, key)
    assert ring.cipher(record_id, key) is cipher
    await store.destroy([record_id])  # by another process
    await until(lambda: ring.held(record_id) is NoKey.DESTROYED)
    assert len(ring._ciphers) == 0
    # A batch that found the key before may still use it, but leaves nothing of it behind.
    assert ring.cipher(record_id, key) is not cipher
    assert len(ring._ciphers) == 0
    await ring.close()


def test_ciphers_that_were_not_used_for_longest_go_first() -> None:
    ciphers = Ciphers(ciphers_max=2)
    first, second, third = (RecordId(new_id()) for _ in range(3))
    ciphers.hold(first, AESGCM(bytes(32)))
    ciphers.hold(second, AESGCM(bytes(32)))
    assert ciphers.find(first) is not None
    ciphers.hold(third, AESGCM(bytes(32)))
    assert ciphers.find(second) is None
    assert ciphers.find(first) is not None


async def test_who_listens_is_told_while_it_lives_and_is_not_kept_alive() -> None:
    class Listener:
        def __init__(self) -> None:
            self.told: list[Collection[RecordId] | None] = []

        def forget(self, record_ids: Collection[RecordId] | None) -> None:
            self.told.append(record_ids)

    ring = KeyRing(MemoryKeyStore())
    gone, stays = Listener(), Listener()
    ring.listen(gone.forget)
    ring.listen(stays.forget)
    del gone
    gc.collect()
    record_id = RecordId(new_id())
    await ring.destroy([record_id])
    assert stays.told == [[record_id]]
    assert len(ring._listeners) == 1
    await ring.close()
