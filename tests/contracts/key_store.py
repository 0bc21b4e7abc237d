"""What every implementation of `eventlog.keys.port.KeyStore` must do; adapters give its `store`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from domain.ids import RecordId
from eventlog.keys.port import DATA_KEY_BYTES, KeyStore, NoKey
from tests.support.events import new_id
from tests.support.sealed import Source


def some_ids(how_many: int) -> list[RecordId]:
    return [RecordId(new_id()) for _ in range(how_many)]


async def told(store: KeyStore, after: int, how_many: int) -> list[RecordId]:
    """Follow until so many records are told, within a deadline."""
    found: list[RecordId] = []
    async with asyncio.timeout(20):
        async for record_ids in store.follow(after):
            found += record_ids
            if len(found) >= how_many:
                break
    return found


class KeyStoreContract:
    """Run by one adapter for each implementation."""

    @pytest.fixture
    def source(self) -> Source:
        return Source()

    async def test_a_key_is_made_once_and_stays_the_same(self, store: KeyStore) -> None:
        [one, two] = some_ids(2)
        made = await store.ensure([one, two])
        keys = [made[one], made[two]]
        assert all(isinstance(key, bytes) and len(key) == DATA_KEY_BYTES for key in keys)
        assert made[one] != made[two]
        assert await store.ensure([two, one]) == made
        assert await store.load([one, two]) == made

    async def test_a_key_that_was_never_made_is_not_one_that_was_destroyed(
        self, store: KeyStore
    ) -> None:
        [never, gone] = some_ids(2)
        await store.ensure([gone])
        await store.destroy([gone])
        answers = await store.load([never, gone])
        assert answers == {never: NoKey.NEVER_MADE, gone: NoKey.DESTROYED}

    async def test_a_destroyed_record_never_gets_a_key_again(self, store: KeyStore) -> None:
        [made, never, other] = some_ids(3)
        kept = await store.ensure([made, other])
        await store.destroy([made, never])
        await store.destroy([made, never])
        for answers in (await store.ensure([made, never, other]), await store.load([made, never])):
            assert answers[made] is NoKey.DESTROYED
            assert answers[never] is NoKey.DESTROYED
        assert (await store.load([other]))[other] == kept[other]

    async def test_many_are_made_loaded_and_missed_at_once(self, store: KeyStore) -> None:
        ids = some_ids(2_500)
        before = await store.ensure(ids[:700])
        made = await store.ensure(ids)
        assert set(made) == set(ids)
        assert len(set(made.values())) == len(ids)
        assert {record_id: made[record_id] for record_id in ids[:700]} == before
        assert await store.load(ids) == made
        assert await store.load([]) == {}
        assert await store.ensure([]) == {}

    async def test_whoever_asks_at_the_same_time_gets_the_same_key(
        self, other_store: Callable[[], KeyStore], store: KeyStore
    ) -> None:
        ids = some_ids(50)
        stores = [store, other_store()] * 5
        answers = await asyncio.gather(
            *(one.ensure(ids[place:] + ids[:place]) for place, one in enumerate(stores))
        )
        assert all(answer == answers[0] for answer in answers)
        assert await store.load(ids) == answers[0]

    async def test_making_and_destroying_at_the_same_time_ends_destroyed(
        self, other_store: Callable[[], KeyStore], store: KeyStore
    ) -> None:
        ids = some_ids(30)
        other = other_store()
        await asyncio.gather(store.ensure(ids), other.destroy(ids), store.ensure(ids))
        answers = await store.load(ids)
        assert set(answers.values()) == {NoKey.DESTROYED}

    async def test_a_rotation_keeps_every_key(self, store: KeyStore, source: Source) -> None:
        ids = some_ids(600)
        made = await store.ensure(ids)
        await store.destroy(ids[:5])
        assert await store.rotate() == 0
        source.renew()
        assert await store.rotate() == 595
        assert await store.rotate() == 0
        answers = await store.load(ids)
        assert {r: answers[r] for r in ids[5:]} == {r: made[r] for r in ids[5:]}
        assert {answers[r] for r in ids[:5]} == {NoKey.DESTROYED}

    async def test_a_turn_over_keeps_every_key_and_who_uses_them_goes_on(
        self, other_store: Callable[[], KeyStore], store: KeyStore
    ) -> None:
        ids, other = some_ids(20), other_store()
        made = await store.ensure(ids)
        await store.destroy(ids[:5])
        position = await other.position()
        await store.turn_over()
        expected = dict(made) | dict.fromkeys(ids[:5], NoKey.DESTROYED)
        assert await other.load(ids) == expected
        assert await other.ensure(ids) == expected
        following = asyncio.create_task(told(other, position, 1))
        await store.destroy(ids[5:6])
        assert (await following)[-1] == ids[5]
        assert (await other.ensure(ids[5:6]))[ids[5]] is NoKey.DESTROYED

    async def test_followers_hear_of_what_is_destroyed_from_their_place_on(
        self, other_store: Callable[[], KeyStore], store: KeyStore
    ) -> None:
        [early, one, two] = some_ids(3)
        await store.ensure([early, one])
        await store.destroy([early])
        position = await store.position()
        following = asyncio.create_task(told(other_store(), position, 2))
        await store.destroy([one])
        await store.ensure(some_ids(3))
        await store.destroy([two])
        assert await following == [one, two]
