"""Waking by snapshot and tail: the same state, less reading, and nothing believed unchecked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from actors import packing
from actors import snapshots as snapshots_module
from actors.awake import AwakeRecord
from actors.snapshots import RecordSnapshots
from actors.waking import Waker
from domain.ids import RecordId, Stream, record_stream
from eventlog.errors import LogUnavailable
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Entry, Head
from eventlog.snapshots.memory import MemorySnapshotStore
from eventlog.snapshots.port import Snapshot
from tests.actors.house import Workspace, check, consent, identify, track, traits, user, workspace

A, B, C = user("a"), user("b"), user("c")
EVERY = 4


class ReadingLog(MemoryEventLog):
    """Remember from where streams were read, and how many events came."""

    def __init__(self, ring: KeyRing) -> None:
        super().__init__("test", keys=ring)
        self.heads: dict[Stream, Head] = {}
        self.events = 0

    async def load_many(
        self,
        streams: Mapping[Stream, Head],
        *,
        concurrency: int = 32,
        recheck: Collection[Stream] = (),
    ) -> dict[Stream, list[Entry]]:
        """Load streams, and note it."""
        found = await super().load_many(streams, recheck=recheck)
        self.heads |= streams
        self.events += sum(len(entries) for entries in found.values())
        return found


class WatchedStore(MemorySnapshotStore):
    """Count requests."""

    def __init__(self, ring: KeyRing) -> None:
        super().__init__(ring)
        self.loads: list[set[RecordId]] = []

    async def load(
        self, record_ids: Iterable[RecordId], *, schema: str
    ) -> Mapping[RecordId, Snapshot]:
        """Load snapshots, and note it."""
        wanted = set(record_ids)
        self.loads.append(wanted)
        return await super().load(wanted, schema=schema)

    def versions(self) -> dict[RecordId, int]:
        """Give the version that each snapshot stands for."""
        return {r: int(s.headers["koseki-version"]) for r, s in self._sealed.items()}


@dataclass
class Parts:
    """A workspace whose hosts take snapshots, and what it rests on."""

    ring: KeyRing
    log: ReadingLog
    store: WatchedStore
    house: Workspace = field(init=False)

    async def wake(self, *record_ids: RecordId) -> tuple[dict[RecordId, AwakeRecord], set[str]]:
        """Wake as a fresh host does."""
        self.log.heads, self.log.events, self.store.loads = {}, 0, []
        found, unreadable = await Waker(self.log, RecordSnapshots(self.store)).wake(record_ids, {})
        return {item.record.id: item for item in found}, set(unreadable)

    async def wake_from_start(self, *record_ids: RecordId) -> dict[RecordId, AwakeRecord]:
        """Wake by the log alone."""
        found, _ = await Waker(self.log, RecordSnapshots(None)).wake(record_ids, {})
        return {item.record.id: item for item in found}

    async def grown(self, person: str = "a", events: int = 2 * EVERY + 1) -> RecordId:
        """Bring somebody about by so many events of one record, and restart."""
        root = (await self.house.done(track("m0", user(person)))).customer_id
        for number in range(1, events - 1):
            await self.house.done(track(f"m{number}", user(person)))
        await self.house.restart()
        return RecordId(str(root))


@pytest_asyncio.fixture
async def parts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    monkeypatch.setattr(snapshots_module, "EVERY_EVENTS", EVERY)
    ring = KeyRing(MemoryKeyStore())
    parts = Parts(ring, ReadingLog(ring), WatchedStore(ring))
    async with workspace(log=parts.log, snapshots=parts.store) as parts.house:
        yield parts
    await ring.close()


async def test_a_host_takes_snapshots_as_records_grow(parts: Parts) -> None:
    root = await parts.grown(events=EVERY - 1)
    assert parts.store.versions() == {}
    await parts.house.done(track("more", A))
    await parts.house.restart()
    assert parts.store.versions() == {root: EVERY}


async def test_a_cold_customer_is_woken_by_snapshot_and_tail_alone(parts: Parts) -> None:
    root = await parts.grown(events=2 * EVERY + 1)
    assert parts.store.versions() == {root: 2 * EVERY}
    awake, unreadable = await parts.wake(root)
    assert (parts.log.heads[record_stream(root)].version, parts.log.events) == (2 * EVERY, 1)
    assert awake == await parts.wake_from_start(root)
    assert not unreadable


async def test_a_merged_customer_is_woken_in_a_few_bulk_requests(parts: Parts) -> None:
    roots = [await parts.grown(person) for person in "abc"]
    await parts.house.done(identify(A, B))
    await parts.house.done(identify(A, C))
    awake, _ = await parts.wake(max(roots))
    assert awake == await parts.wake_from_start(max(roots))
    assert set(awake) == set(roots)
    assert len(parts.store.loads) <= 3
    assert sum(len(asked) for asked in parts.store.loads) == len(roots)


async def test_duplicates_are_known_by_a_state_that_was_packed(parts: Parts) -> None:
    await parts.grown()
    again = await parts.house.done(track("m0 m1 new", A))
    assert [*again.signals] == ["duplicate", "duplicate", "recorded"]


async def test_an_event_replaced_behind_the_snapshot_is_noticed(parts: Parts) -> None:
    root = await parts.grown(events=EVERY)
    await parts.house.done(consent("given", B))
    head = (await parts.wake_from_start(root))[root].head
    parts.log.damage_body(head.revision, b'{"source":"shop","signals":[]}')
    await parts.house.restart()
    assert await parts.wake(root) == ({}, {root})
    verdict = (await parts.house.done(check(A, purpose="service"))).verdict
    assert verdict is not None
    assert (verdict.is_open, verdict.reason) == (False, "CUSTOMER_UNREADABLE")
    assert await parts.house.fails(traits(A)) == "CUSTOMER_UNREADABLE"
    assert await parts.house.is_open(B)


async def test_a_stream_shorter_than_its_snapshot_says_is_noticed(parts: Parts) -> None:
    root = await parts.grown(events=EVERY)
    head = (await parts.wake_from_start(root))[root].head
    await parts.house.close()
    parts.log.lose_after(head.revision - 1)
    await parts.house.start()
    assert await parts.wake(root) == ({}, {root})
    assert not await parts.house.is_open(A, purpose="service")
    assert await parts.house.fails(traits(A)) == "CUSTOMER_UNREADABLE"


async def test_a_stream_cut_and_grown_again_is_noticed(parts: Parts) -> None:
    root = await parts.grown(events=EVERY)
    head = (await parts.wake_from_start(root))[root].head
    await parts.house.close()
    parts.log.lose_after(head.revision - 1)
    kept, parts.house.snapshots = parts.house.snapshots, None
    await parts.house.start()
    await parts.house.done(track("other", A))
    parts.house.snapshots = kept
    await parts.house.restart()
    assert await parts.wake(root) == ({}, {root})
    assert await parts.house.fails(traits(A)) == "CUSTOMER_UNREADABLE"


async def test_an_unusable_snapshot_is_as_none(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = await parts.grown("a"), await parts.grown("b")
    whole = await parts.wake_from_start(root, other)
    parts.store.damage(root)
    assert (await parts.wake(root, other))[0] == whole
    assert parts.log.heads[record_stream(root)] == EMPTY
    assert parts.log.heads[record_stream(other)].version == 2 * EVERY
    await _save_state(parts.store, whole[other], b"no record")
    assert (await parts.wake(root, other))[0] == whole
    assert parts.log.heads[record_stream(other)] == EMPTY
    monkeypatch.setattr(snapshots_module, "schema", lambda: "another")
    assert (await parts.wake(root, other))[0] == whole


async def test_without_the_store_everything_goes_on(parts: Parts) -> None:
    parts.store.is_available = False
    root = await parts.grown()
    assert (await parts.wake(root))[0] == await parts.wake_from_start(root)
    parts.store.is_available = True
    assert parts.store.versions() == {}


async def test_waking_by_a_long_tail_leaves_a_snapshot(parts: Parts) -> None:
    root = await parts.grown()
    await parts.store.remove([root])
    await parts.house.done(check(A))
    await parts.house.restart()
    assert parts.store.versions() == {root: 2 * EVERY + 1}


async def test_an_erased_record_is_folded_from_its_log_as_erased(parts: Parts) -> None:
    root = await parts.grown()
    await parts.ring.destroy([root])
    awake, unreadable = await parts.wake(root)
    assert not unreadable
    assert list(awake[root].record.identifiers.values()) == [None]
    assert not awake[root].record.messages
    await parts.house.done(check(A))
    await parts.store.remove([root])
    await parts.house.restart()
    assert parts.store.versions() == {}


async def test_what_waits_to_be_saved_is_limited(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "WAITING_MAX", 1)
    awake = await parts.wake_from_start(await parts.grown("a"), await parts.grown("b"))
    store = WatchedStore(parts.ring)
    taking = RecordSnapshots(store)
    for item in [*awake.values(), *awake.values()]:
        taking.note(item.record, item.head, since_version=0)
    await taking.close()
    assert store.versions() == {next(iter(awake)): 2 * EVERY + 1}


async def test_a_log_that_is_away_is_said_to_be_away(parts: Parts) -> None:
    root = await parts.grown()
    parts.log.is_available = False
    with pytest.raises(LogUnavailable):
        await parts.wake(root)
    parts.log.is_available = True


async def _save_state(store: WatchedStore, awake: AwakeRecord, state: bytes) -> None:
    schema = packing.schema()
    await store.save([Snapshot(awake.record.id, schema, awake.head, state)])
