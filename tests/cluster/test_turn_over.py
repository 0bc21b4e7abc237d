"""Keys that were destroyed or rotated leave every replica's disk once the store is turned over."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from actors.intake.letter_seal import FAMILY, LetterSeal, OutdatedLetters
from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys import turn_over
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import DESTROYED, KeyDraft, KeyMessage, KeyStream
from eventlog.keys.places import Phase, Place, Places
from eventlog.keys.port import KeyAnswer, NoKey
from eventlog.keys.turn_over import TurnOver
from tests.support.cluster import Cluster, Member
from tests.support.events import new_id
from tests.support.nats import new_workspace
from tests.support.sealed import Source, files_with, forms
from tests.support.waiting import until

WRITERS = 4


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def workspace() -> str:
    return new_workspace()


@pytest_asyncio.fixture
async def store(connection: Connection, workspace: str, source: Source) -> JetStreamKeyStore:
    return await opened(connection, workspace, source)


@pytest_asyncio.fixture
async def own_store(
    own_cluster: Cluster, workspace: str, source: Source
) -> AsyncIterator[JetStreamKeyStore]:
    """Open a store on servers that nobody else uses, whose folders may be searched."""
    connection = await own_cluster.connect()
    yield await opened(connection, workspace, source)
    await connection.close()


@pytest_asyncio.fixture
async def far(cluster: Cluster) -> AsyncIterator[Connection]:
    """Connect to another server than `connection`."""
    far = await cluster.connect(cluster.members[1])
    yield far
    await far.close()


async def opened(connection: Connection, workspace: str, source: Source) -> JetStreamKeyStore:
    store = JetStreamKeyStore(connection, workspace, source=source)
    await store.open(replicas=3)
    return store


def some_ids(how_many: int) -> list[RecordId]:
    return [RecordId(new_id()) for _ in range(how_many)]


def written(wrapped: bytes) -> Iterator[bytes]:
    """Give every form in which a wrapped key may lie in a file."""
    yield wrapped
    for text in (b64encode(wrapped).decode(), wrapped.hex()):
        yield from forms(text)


def places_of(folder: Path, wrapped: list[bytes]) -> list[Path]:
    return [path for one in wrapped for form in written(one) for path in files_with(folder, form)]


async def test_what_was_destroyed_or_rotated_is_on_no_replica_after_the_turn_over(
    own_store: JetStreamKeyStore, workspace: str, source: Source, tmp_path: Path
) -> None:
    ids = some_ids(30)
    made = await own_store.ensure(ids)
    stream = KeyStream(own_store._api, workspace)
    before = [m.body for held in (await stream.read(ids)).values() for m in held]
    assert len(before) == len(ids)
    expected = dict(made) | dict.fromkeys(ids[:10], NoKey.DESTROYED)
    await own_store.destroy(ids[:10])
    source.renew()
    assert await own_store.rotate() == 20
    assert len(places_of(tmp_path, before)) >= 3, "the search would not find what is there"
    await own_store.turn_over()
    await until(lambda: not places_of(tmp_path, before))
    after = [
        m.body
        for held in (await read_anew(own_store._api.connection, workspace, ids)).values()
        for m in held
    ]
    kept = [body for body in after if body]
    assert len(kept) == 20
    assert len(places_of(tmp_path, kept)) >= 3 * len(kept)
    assert await own_store.load(ids) == expected


async def test_a_day_of_dead_letters_leaves_every_replica_though_its_steward_was_killed(
    own_cluster: Cluster,
    workspace: str,
    source: Source,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = await own_cluster.connect()
    keys = JetStreamKeyStore(connection, workspace, source=source, family=FAMILY)
    await keys.open(replicas=3)
    sealed = await LetterSeal(keys, kept_seconds=8.0).seal(b"letter")
    owner = RecordId(sealed.partition(b"\n")[0].decode())
    held = await KeyStream(JetStreamApi(connection), workspace, family=FAMILY).read([owner])
    wrapped = [message.body for message in held[owner]]
    later = datetime.now(UTC) + timedelta(seconds=8)

    async def die(_self: JetStreamKeyStore) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(JetStreamKeyStore, "turn_over", die)
        with pytest.raises(asyncio.CancelledError):
            await OutdatedLetters(keys).destroy(later)
    assert places_of(tmp_path, wrapped)
    assert await OutdatedLetters(keys).destroy(later) == 0
    await until(lambda: not places_of(tmp_path, wrapped))
    await connection.close()


async def read_anew(
    connection: Connection, workspace: str, ids: list[RecordId]
) -> dict[RecordId, list[KeyMessage]]:
    stream = KeyStream(JetStreamApi(connection), workspace)
    await stream.locate()
    return await stream.read(ids)


async def test_who_makes_keys_waits_and_no_key_that_was_given_is_lost(
    store: JetStreamKeyStore, far: Connection, workspace: str, source: Source
) -> None:
    writers = [await opened(far, workspace, source) for _ in range(WRITERS)]
    given: dict[RecordId, KeyAnswer] = {}
    is_over = asyncio.Event()

    async def write(writer: JetStreamKeyStore) -> None:
        while not is_over.is_set():
            made = await writer.ensure(some_ids(3))
            given.update(made)
            loaded = await writer.load(made)
            assert loaded == made

    tasks = [asyncio.create_task(write(writer)) for writer in writers]
    await until(lambda: len(given) > 100)
    await store.turn_over()
    seen = len(given)
    await until(lambda: len(given) > seen + 100)
    is_over.set()
    await asyncio.gather(*tasks)
    assert await (await opened(far, workspace, source)).load(given) == given


@pytest.fixture(params=["close", "create_copy", "delete", "promote"])
def step(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["before", "after"])
def death(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, step: str
) -> pytest.MonkeyPatch:
    """Kill a turn-over before or after a step, until it is undone."""
    original = getattr(Places, step)

    async def die(self: Places, asked: object) -> None:
        if request.param == "after":
            await original(self, asked)
        raise asyncio.CancelledError

    monkeypatch.setattr(Places, step, die)
    return monkeypatch


async def test_a_turn_over_that_was_killed_is_taken_up_and_loses_nothing(
    store: JetStreamKeyStore,
    far: Connection,
    *,
    workspace: str,
    source: Source,
    death: pytest.MonkeyPatch,
) -> None:
    ids = some_ids(20)
    expected = dict(await store.ensure(ids)) | dict.fromkeys(ids[:5], NoKey.DESTROYED)
    await store.destroy(ids[:5])
    with pytest.raises(asyncio.CancelledError):
        await store.turn_over()
    death.undo()
    reader = await opened(far, workspace, source)
    assert await reader.load(ids) == expected
    await reader.finish_turn_over()
    [place] = await Places(JetStreamApi(far), workspace).find()
    assert place.phase is Phase.LIVE
    assert await (await opened(far, workspace, source)).load(ids) == expected
    assert await store.load(ids) == expected
    assert len(await store.ensure(some_ids(3))) == 3


async def test_two_turn_overs_after_each_other_come_back_to_the_first_stream(
    store: JetStreamKeyStore, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_over, "APART_SECONDS_MIN", 0.0)
    made = await store.ensure(ids := some_ids(5))
    places = Places(store._api, workspace)
    for name in (places.names[1], places.names[0]):
        await store.turn_over()
        [place] = await places.find()
        assert (place.name, place.phase) == (name, Phase.LIVE)
        assert await store.load(ids) == made


async def test_what_is_erased_while_others_copy_it_is_nowhere_after_a_turn_over_of_its_own(
    own_store: JetStreamKeyStore,
    workspace: str,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn_over, "APART_SECONDS_MIN", 0.0)
    [gone] = some_ids(1)
    await own_store.ensure([gone])
    stream = KeyStream(own_store._api, workspace)
    [held] = (await stream.read([gone]))[gone]
    assert await stream.write([KeyDraft(gone, DESTROYED, b"", held.sequence)])
    create_copy = Places.create_copy

    async def copy_then_erase(self: Places, place: Place) -> None:
        await create_copy(self, place)
        [copied] = [p for p in await self.find() if p.phase is Phase.COPY]
        await until_whole(self, copied.name)
        await stream.erase([held.sequence])

    with monkeypatch.context() as patch:
        patch.setattr(Places, "create_copy", copy_then_erase)
        await TurnOver(own_store._api, Places(own_store._api, workspace)).run(_nothing)
    await own_store.turn_over()
    await until(lambda: not places_of(tmp_path, [held.body]))
    assert await own_store.load([gone]) == {gone: NoKey.DESTROYED}


class LatePlaces(Places):
    """Places as somebody sees them who looks too early and is held up before every deletion."""

    def __init__(self, api: JetStreamApi, workspace: str, others: asyncio.Future[None]) -> None:
        super().__init__(api, workspace)
        self._others = others

    async def find(self) -> list[Place]:
        return [
            place._replace(is_replicated_everywhere=place.phase is not Phase.COPY)
            for place in await super().find()
        ]

    async def delete(self, place: Place) -> None:
        await asyncio.wait([self._others])
        await super().delete(place)


async def test_two_who_turn_over_at_once_lose_no_key_though_one_of_them_sees_replicas_lag(
    store: JetStreamKeyStore, workspace: str
) -> None:
    made = await store.ensure(ids := some_ids(5))
    turning = asyncio.ensure_future(store.turn_over())
    late = LatePlaces(store._api, workspace, turning)
    await asyncio.gather(turning, TurnOver(store._api, late).run(_nothing))
    assert await store.load(ids) == made
    assert len(await store.ensure(some_ids(3))) == 3


async def _nothing() -> None:
    """Be somebody who has destroyed nothing."""


async def until_whole(places: Places, name: str) -> None:
    async with asyncio.timeout(10):
        while True:
            found = {place.name: place for place in await places.find()}
            closed = next(p for p in found.values() if p.phase is Phase.CLOSED)
            if found[name].holds(closed):
                return
            await asyncio.sleep(0.01)


async def test_while_a_server_is_away_the_store_is_not_turned_over_and_keys_are_made(
    own_store: JetStreamKeyStore,
    own_cluster: Cluster,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn_over, "TOGETHER_SECONDS_MAX", 2.0)
    wrapped = await destroyed_one(own_store)
    away = await a_follower(own_cluster, own_store)
    await away.kill()
    with pytest.raises(LogUnavailable):
        await own_store.turn_over()
    assert len(await own_store.ensure(some_ids(3))) == 3
    await away.start()
    await own_cluster.wait_current(own_store._api, own_store._stream.name)
    await own_store.turn_over()
    await until(lambda: not places_of(tmp_path, wrapped))


async def test_a_server_that_is_lost_in_the_middle_keeps_nobody_from_making_keys(
    own_store: JetStreamKeyStore,
    own_cluster: Cluster,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn_over, "TOGETHER_SECONDS_MAX", 2.0)
    monkeypatch.setattr(turn_over, "APART_SECONDS_MIN", 0.0)
    wrapped = await destroyed_one(own_store)
    away = await a_follower(own_cluster, own_store)
    original = Places.close

    async def close_and_lose(self: Places, place: Place) -> None:
        await original(self, place)
        await away.kill()

    with monkeypatch.context() as patch:
        patch.setattr(Places, "close", close_and_lose)
        with pytest.raises(LogUnavailable):
            await own_store.turn_over()
    assert len(await own_store.ensure(some_ids(3))) == 3
    await away.start()
    await own_cluster.wait_current(own_store._api, own_store._stream.name)
    await own_store.turn_over()
    await until(lambda: not places_of(tmp_path, wrapped))


async def destroyed_one(store: JetStreamKeyStore) -> list[bytes]:
    """Make a key and destroy it; give the bytes that may lie in Raft's logs."""
    ids = some_ids(1)
    await store.ensure(ids)
    wrapped = [
        message.body for held in (await store._stream.read(ids)).values() for message in held
    ]
    await store.destroy(ids)
    return wrapped


async def a_follower(cluster: Cluster, store: JetStreamKeyStore) -> Member:
    """Name a server that leads neither the keys nor the cluster."""
    leader = await cluster.leader_of(store._api, store._stream.name)
    meta = cluster.member(str((await leader.meta())["leader"]))
    return cluster.others(leader, meta)[0]


async def test_where_no_stream_is_the_keys_are_unavailable(
    connection: Connection, workspace: str, source: Source
) -> None:
    store = await opened(connection, workspace, source)
    await JetStreamApi(connection).call(f"STREAM.DELETE.koseki-{workspace}-keys")
    with pytest.raises(LogUnavailable):
        await store.load(some_ids(1))
