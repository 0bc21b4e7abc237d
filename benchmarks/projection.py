"""The part `projection`: folding a log into LMDB with 50 segments standing, rows sealed.

The log lies on a real server. The raw limit does for each event of it what any projector of sealed
rows must: fetch it, unseal its body, seal one row and put it, in transactions of one size.
"""

from __future__ import annotations

import asyncio
from binascii import a2b_base64
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import nats.js
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from app.processes import cores
from benchmarks.happenings import Happenings
from benchmarks.measuring import Metric, Metrics, Rounds, alternate, rate_of
from benchmarks.scene import Scene, log_scene
from domain.event import Event, Recorded
from domain.ids import RecordId, Stream, StreamKind
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.port import DataKey
from eventlog.port import EMPTY, Attempt, Draft, Entry, Head, Stored
from eventlog.subjects import Subjects
from projections.fold import row_codec
from projections.generations import serving_folder
from projections.part_process import PartProcesses
from projections.runner import Projector
from projections.store import Store, WritableStore

BATCH_EVENTS = 5_000
APPEND_EVENTS = 500
APPEND_SECONDS_MAX = 30.0
FOLD_SECONDS_MAX = 600.0
START_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02
NONCE_BYTES = 12


class DerivedKeys:
    """A key for every record, at hand at once."""

    def key_of(self, record_id: RecordId) -> DataKey:
        """Give a record's key."""
        return DataKey(sha256(record_id.encode()).digest())

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    rounds: Rounds = Rounds(5, seconds_max=240.0)  # noqa: RUF009  # frozen
    events: int = 100_000
    customers: int = 20_000
    segments: int = 50


QUICK = Load(rounds=Rounds(3, seconds_max=60.0), events=30_000, customers=6_000)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the part."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(load: Load) -> Metrics:
    """Measure with a load of one's own."""
    async with log_scene() as scene:
        return await _measured(scene, load)


async def _measured(scene: Scene, load: Load) -> Metrics:
    events, ciphers = await _stored(scene, load)

    async def ours() -> list[float]:
        return await _project(scene, events, processes=cores())

    async def alone() -> list[float]:
        return await _project(scene, events, processes=0)

    async def raw() -> list[float]:
        return await rate_of(events, _put_sealed(scene, ciphers, events))

    found = await alternate(load.rounds, ours=ours, raw=raw, alone=alone)
    beside = {"in_one_process": found["alone"]}
    metric = Metric(found["ours"], "events/s", found["raw"], ratio_at_least=0.3, beside=beside)
    return {"project_events_per_second": metric}


async def _stored(scene: Scene, load: Load) -> tuple[int, Mapping[str, AESGCM]]:
    """Make and store the log; give how many events it has, and the ciphers of its records.

    What it was made of is let go of: no projector has a log in memory, for collections to pass.
    """
    happenings = Happenings()
    happenings.rules()
    happenings.segments(load.segments)
    happenings.signals(load.events, customers=load.customers)
    await store_entries(scene.log, happenings.entries)
    return len(happenings.entries), await _ciphers(scene, happenings.entries)


async def store_entries(log: JetStreamEventLog, entries: Sequence[Entry]) -> None:
    """Append the events of entries that were made in memory, in their order."""
    heads: dict[Stream, Head] = {}
    for first in range(0, len(entries), APPEND_EVENTS):
        events = [entry.event for entry in entries[first : first + APPEND_EVENTS] if entry.event]
        drafts = tuple(_draft(event) for event in events)
        expected = {draft.stream: heads.get(draft.stream, EMPTY) for draft in drafts}
        stored = await log.append(Attempt(drafts, expected), timeout_seconds=APPEND_SECONDS_MAX)
        if not isinstance(stored, Stored):
            raise TypeError(f"an append ended as {stored}")
        heads |= stored.heads


def _draft(event: Recorded[Event]) -> Draft:
    return Draft(
        stream=event.stream,
        event_id=event.event_id,
        body=event.body,
        happened_at=event.happened_at,
        recorded_at=event.recorded_at,
        command_id=event.command_id,
        correlation_id="",
        decision_id=event.decision_id,
        part=event.part,
        parts=event.parts,
        auth_id=event.auth_id,
    )


async def _project(scene: Scene, events: int, *, processes: int) -> list[float]:
    """Project so many events into an empty read side, whose processes have started."""
    with TemporaryDirectory() as folder:
        async with projector_of(scene, Path(folder), processes) as (projector, _):
            return await rate_of(events, _run_to(projector, events))


@asynccontextmanager
async def projected(scene: Scene, events: int, folder: Path) -> AsyncIterator[WritableStore]:
    """Project so many events of the scene's log into a folder."""
    async with projector_of(scene, folder, 0) as (projector, store):
        await _run_to(projector, events)
        yield store


@asynccontextmanager
async def projector_of(
    scene: Scene, folder: Path, processes: int
) -> AsyncIterator[tuple[Projector, WritableStore]]:
    """Open an empty read side and its projector, with processes that are ready."""
    store = Store.open_writer(folder, row_codec(scene.log))
    beside = PartProcesses(store, serving_folder(folder), processes)
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while not beside.are_ready():  # noqa: ASYNC110  # it is asked
                await asyncio.sleep(LOOK_SECONDS)
        yield Projector(scene.log, store, beside=beside), store
    finally:
        beside.close()
        store.close()


async def _run_to(projector: Projector, events: int) -> None:
    folding = asyncio.create_task(projector.run())
    try:
        await projector.wait_for(events, timeout_seconds=FOLD_SECONDS_MAX)
    finally:
        folding.cancel()
        await asyncio.gather(folding, return_exceptions=True)


async def _ciphers(scene: Scene, entries: Sequence[Entry]) -> Mapping[str, AESGCM]:
    """Make the ciphers of all records, by the last token of their subjects."""
    records = {RecordId(e.stream.key) for e in entries if e.stream.kind is StreamKind.RECORD}
    ring = scene.log.keys
    found = await ring.load(records) if ring is not None else {}
    return {record: AESGCM(key) for record, key in found.items() if isinstance(key, bytes)}


async def _put_sealed(scene: Scene, ciphers: Mapping[str, AESGCM], events: int) -> None:
    """Fetch, unseal, seal and put: the least that a projector of sealed rows does."""
    context = nats.js.JetStreamContext(scene.client)
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
    log_name = Subjects(scene.log.workspace).log_name
    subscription = await context.pull_subscribe("", stream=log_name, config=config)
    with TemporaryDirectory() as folder:
        environment = lmdb.open(folder, map_size=1 << 34)
        fetched = 0
        while fetched < events:
            wanted = min(BATCH_EVENTS, events - fetched)
            messages = await subscription.fetch(wanted, timeout=APPEND_SECONDS_MAX)
            with environment.begin(write=True) as transaction:
                for number, message in enumerate(messages, start=fetched):
                    place = sha256(number.to_bytes(8, "big")).digest()
                    transaction.put(place, _sealed_again(message, ciphers, place[:NONCE_BYTES]))
            fetched += len(messages)
        environment.close()
    await subscription.unsubscribe()


def _sealed_again(message: Msg, ciphers: Mapping[str, AESGCM], nonce: bytes) -> bytes:
    cipher = ciphers.get(message.subject.rpartition(".")[2])
    if cipher is None:  # of the workspace: nothing is sealed
        return message.data
    record_id, event_id = message.subject.rpartition(".")[2], (message.headers or {})["ce-id"]
    sealed = a2b_base64(orjson.loads(message.data)["sealed"])
    associated = f"{record_id}/{event_id}".encode()
    plain = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    return cipher.encrypt(nonce, plain, None)
