"""The part `log`: appends through group commit, scans, and waking a customer from the log.

Each operation stands beside the same one in `raw.py`, on the same server in the same run. Our side
does all that a host does for an event: envelope, versions, chain and expectation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from actors.snapshots import EVERY_EVENTS, RecordSnapshots
from actors.waking import Waker
from benchmarks import load
from benchmarks.measuring import (
    Metric,
    Metrics,
    Operation,
    Rounds,
    alternate,
    milliseconds_of,
    rate_of,
)
from benchmarks.raw import RawStream, fetch_all, last_message
from benchmarks.scene import Scene, log_scene
from domain.ids import RecordId, Stream
from eventlog.codec import JsonTranscoder
from eventlog.commit import GroupCommit
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.workspace_key import new_workspace_key
from eventlog.port import EMPTY, Attempt, Draft, Outcome, Stored
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from eventlog.snapshots.port import SnapshotStore
from eventlog.subjects import Subjects

APPEND_SECONDS_MAX = 30.0
OUTSTANDING = 1_024
WRITERS = 64
RAW_BATCH = 500
SCAN_BATCH = 5_000
COLD_WORKSPACE = "cold"
TAIL = EVERY_EVENTS // 2


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured: rounds, and what one round does.

    The appends of the first rounds are what is scanned later, so there must be enough of them.
    """

    rounds: Rounds = Rounds(15, seconds_max=60.0)  # noqa: RUF009  # frozen, as the numbers below
    appends_per_outstanding: int = 8
    appends_per_writer: int = 40
    lone_appends: int = 150
    scanned_events: int = 50_000
    records: int = 6
    record_events: int = 1_000


QUICK = Load(rounds=Rounds(7, seconds_max=2.5), scanned_events=10_000, records=4)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the log."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(size: Load) -> Metrics:
    """Measure the log under a load of this size."""
    async with log_scene() as scene:
        body = JsonTranscoder().encode(load.purchase().model_dump())
        raw = RawStream(scene.client, "raw", subjects=OUTSTANDING, body=body)
        await raw.create()
        return {
            "append_events_per_second": await _many_outstanding(scene, raw, size),
            "append_64_writers_per_second": await _lone_writers(scene, raw, size),
            "append_latency_ms": await _one_writer(scene, raw, size),
            "scan_events_per_second": await _scan(scene, raw, size),
            "activation_ms": await _activation(scene, size),
        }


class Writer:
    """Appends to a stream of its own, each event after the one before."""

    def __init__(self, commit: GroupCommit, stream: Stream | None = None) -> None:
        self._commit = commit
        self.stream = stream or load.new_record()
        self._head = EMPTY

    def drafts(self, events: int) -> list[Draft]:
        """Draft events, before the clock runs."""
        return [load.draft(self.stream, load.purchase()) for _ in range(events)]

    async def append(self, *drafts: Draft) -> None:
        """Append drafts together, and require that they are stored."""
        attempt = Attempt(drafts, {self.stream: self._head})
        outcome = await self._commit.append(attempt, timeout_seconds=APPEND_SECONDS_MAX)
        if not isinstance(outcome, Stored):
            raise TypeError(f"an append ended as {outcome}")
        self._head = outcome.heads[self.stream]

    async def append_each(self, drafts: Sequence[Draft]) -> None:
        """Append drafts one by one, each when the one before was acknowledged, as turns do."""
        left = iter(drafts)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def submit_next() -> None:
            draft = next(left, None)
            if draft is None:
                ended.set_result(None)
                return
            attempt = Attempt((draft,), {self.stream: self._head})
            self._commit.submit(attempt, hear, timeout_seconds=APPEND_SECONDS_MAX)

        def hear(outcome: Outcome) -> None:
            if isinstance(outcome, Stored):
                self._head = outcome.heads[self.stream]
                submit_next()
            else:
                ended.set_exception(TypeError(f"an append ended as {outcome}"))

        submit_next()
        await ended


async def _many_outstanding(scene: Scene, raw: RawStream, size: Load) -> Metric:
    batches = OUTSTANDING * size.appends_per_outstanding // RAW_BATCH or 1

    async def in_batches() -> list[float]:
        work = raw.atomic_batches(batches, size=RAW_BATCH)
        return await rate_of(batches * RAW_BATCH, work)

    found = await alternate(
        size.rounds,
        ours=_appends(scene.log, writers=OUTSTANDING, each=size.appends_per_outstanding),
        raw=in_batches,
    )
    return Metric(found["ours"], "events/s", found["raw"], ratio_at_least=0.4)


async def _lone_writers(scene: Scene, raw: RawStream, size: Load) -> Metric:
    events = WRITERS * size.appends_per_writer

    async def in_batches() -> list[float]:
        work = raw.atomic_batches(size.appends_per_writer, size=WRITERS)
        return await rate_of(events, work)

    async def plain() -> list[float]:
        return await rate_of(events, raw.plain_publishes(events, outstanding=WRITERS))

    found = await alternate(
        size.rounds,
        ours=_appends(scene.log, writers=WRITERS, each=size.appends_per_writer),
        raw=in_batches,
        plain=plain,
    )
    beside = {"raw_pipelined_plain_publishes": found["plain"]}
    return Metric(found["ours"], "events/s", found["raw"], ratio_at_least=0.5, beside=beside)


def _appends(log: JetStreamEventLog, *, writers: int, each: int) -> Operation:
    """Let writers append so many events each, all through one group commit."""
    commit = GroupCommit(log)
    everyone = [Writer(commit) for _ in range(writers)]

    async def ours() -> list[float]:
        drafts = [writer.drafts(each) for writer in everyone]
        work = asyncio.gather(*(w.append_each(d) for w, d in zip(everyone, drafts, strict=True)))
        return await rate_of(writers * each, work)

    return ours


async def _one_writer(scene: Scene, raw: RawStream, size: Load) -> Metric:
    writer = Writer(GroupCommit(scene.log))
    subject, last = raw.new_subject(), 0

    async def ours() -> list[float]:
        drafts = writer.drafts(size.lone_appends)
        return [await milliseconds_of(writer.append(draft)) for draft in drafts]

    async def publish() -> None:
        nonlocal last
        last = await raw.expecting_publish(subject, last)

    async def bare() -> list[float]:
        return [await milliseconds_of(publish()) for _ in range(size.lone_appends)]

    found = await alternate(size.rounds, ours=ours, raw=bare)
    return Metric(found["ours"], "ms", found["raw"], ratio_at_most=1.5)


async def _scan(scene: Scene, raw: RawStream, size: Load) -> Metric:
    """Read the log from its beginning, decoded and checked; raw fetches the very same messages.

    Beside it stands the same number of messages of the raw stream, which have no envelope.
    """
    events = size.scanned_events
    log_name = Subjects(scene.log.workspace).log_name

    def fetched(stream_name: str) -> Operation:
        async def fetch() -> list[float]:
            work = fetch_all(scene.client, stream_name, messages=events, size=SCAN_BATCH)
            return await rate_of(events, work)

        return fetch

    async def ours() -> list[float]:
        return await rate_of(events, _read(scene.log, events))

    found = await alternate(size.rounds, ours=ours, raw=fetched(log_name), bare=fetched(raw.name))
    beside = {"raw_without_envelope": found["bare"]}
    return Metric(found["ours"], "events/s", found["raw"], ratio_at_least=0.4, beside=beside)


async def _read(log: JetStreamEventLog, events: int) -> None:
    async with aclosing(log.read(batch_events_max=SCAN_BATCH)) as batches:
        async for entries in batches:
            if any(entry.event is None for entry in entries):
                raise TypeError("an event could not be decoded")
            if entries[-1].revision >= events:
                return
    raise RuntimeError(f"the log holds fewer than {events} events")


async def _activation(scene: Scene, size: Load) -> Metric:
    """Wake customers of one long record each, whose keys and states nobody holds.

    Beside it stand records that have grown for half of what they may since their snapshot, and
    records without one.
    """
    workspace_key = new_workspace_key()
    store = JetStreamKeyStore(scene.connection, COLD_WORKSPACE, source=lambda: workspace_key)
    await store.open()
    # It holds one key, and the records take turns: each finds its key gone.
    keys = KeyRing(store, keys_max=1)
    log = JetStreamEventLog(scene.connection, COLD_WORKSPACE, keys=keys)
    await log.ensure_stream()
    snapshots = JetStreamSnapshotStore(scene.connection, COLD_WORKSPACE, keys=keys)
    await snapshots.open()
    whole = [await _long_record(log, snapshots, size) for _ in range(size.records)]
    grown = [await _long_record(log, snapshots, size, tail=TAIL) for _ in range(size.records)]
    subjects = Subjects(COLD_WORKSPACE)

    def waking(streams: Sequence[Stream], snapshots: SnapshotStore | None) -> Operation:
        async def wake() -> list[float]:
            return [await milliseconds_of(_wake(log, stream, snapshots)) for stream in streams]

        return wake

    async def one_get() -> list[float]:
        gets = (
            last_message(scene.client, subjects.log_name, subjects.subject_of(stream))
            for stream in whole
        )
        return [await milliseconds_of(get) for get in gets]

    found = await alternate(
        size.rounds,
        ours=waking(whole, snapshots),
        raw=one_get,
        tail=waking(grown, snapshots),
        log=waking(whole, None),
    )
    await log.close()
    beside = {f"with_{TAIL}_events_since": found["tail"], "without_snapshot": found["log"]}
    return Metric(found["ours"], "ms", found["raw"], ratio_at_most=4.0, beside=beside)


async def _long_record(
    log: JetStreamEventLog, snapshots: SnapshotStore, size: Load, *, tail: int = 0
) -> Stream:
    """Write a record, have its snapshot taken as a host does on waking it, then write its tail."""
    writer = Writer(GroupCommit(log))
    await writer.append(load.draft(writer.stream, load.birth()))
    for begun in range(1, size.record_events, RAW_BATCH):
        await writer.append(*writer.drafts(min(RAW_BATCH, size.record_events - begun)))
    await _wake(log, writer.stream, snapshots)
    for draft in writer.drafts(tail):
        await writer.append(draft)
    return writer.stream


async def _wake(log: JetStreamEventLog, stream: Stream, store: SnapshotStore | None) -> None:
    record_id, snapshots = RecordId(stream.key), RecordSnapshots(store)
    records, unreadable = await Waker(log, snapshots).wake([record_id], {})
    await snapshots.close()
    if unreadable or [awake.record.id for awake in records] != [record_id]:
        raise RuntimeError("a customer did not wake")
