"""The sealed log on a real server: what rests on its disk, before and after a key is destroyed."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from domain.consent_events import ConsentGiven
from domain.identity import Identifier
from domain.identity_events import IdentifiersLinked
from domain.ids import IdentifierKey, Stream
from domain.signal_events import SignalsRecorded
from domain.signals import Signal
from eventlog.connection import Connection
from eventlog.errors import WorkspaceKeyMissing
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.key_stream import KeyStream
from eventlog.port import EMPTY, Draft, Entry, Stored
from eventlog.server import EmbeddedServer
from projections.fold import fold_batch, row_codec
from projections.memory import MemoryTables
from projections.row_keys import with_keys
from projections.views import customer_view
from replay.fold import fold_log
from replay.verify import verify
from tests.contracts.event_log import EventLogContract
from tests.support.events import NOON, attempt, draft, new_id, new_record, store, traits
from tests.support.nats import connect, new_workspace
from tests.support.sealed import Source, files_with, forms, record_id, sealed_log
from tests.support.waiting import until, until_async

PLANTED = ("planted-鈴木@value.example", "planted trait 値", "planted-message", "planted evidence")
KEY = IdentifierKey("p1.c2Vjb25k-_")


@pytest.fixture
def source() -> Source:
    return Source()


async def folded(rows: MemoryTables, entries: list[Entry]) -> None:
    fold_batch(rows, entries)


class TestSealedJetStreamEventLog(EventLogContract):
    @pytest_asyncio.fixture
    async def log(self, connection: Connection, source: Source) -> JetStreamEventLog:
        log, _ = await sealed_log(connection, new_workspace(), source)
        return log


def planted_drafts(stream: Stream) -> list[Draft]:
    email, trait, message, evidence = PLANTED
    identifier = Identifier(namespace="email", value=email, key=KEY)
    signal = Signal(message_id=message, name=trait, happened_at=NOON, properties={trait: trait})
    bodies = (
        IdentifiersLinked(source="shop", keys=(KEY,), identifiers=(identifier,)),
        traits(**{trait: trait}),
        SignalsRecorded(source="shop", signals=(signal,)),
        ConsentGiven(act_id=new_id(), purpose="marketing", evidence={evidence: evidence}),
    )
    return [draft(stream, body) for body in bodies]


def rest_as(wrapped: bytes, folder: Path) -> list[bytes]:
    """Give the forms in which a wrapped key lies in any file."""
    return [form for form in (wrapped, b64encode(wrapped)) if files_with(folder, form)]


async def wrapped_keys(connection: Connection, workspace: str, stream: Stream) -> list[bytes]:
    found = await KeyStream(JetStreamApi(connection), workspace).read([stream.key])
    return [message.body for message in found[record_id(stream)] if not message.is_tombstone]


async def test_planted_values_are_nowhere_on_the_servers_disk(
    own_server: EmbeddedServer, source: Source, tmp_path: Path
) -> None:
    connection = await connect(own_server)
    log, _ = await sealed_log(connection, "planted", source)
    plain = JetStreamEventLog(connection, "plain")
    await plain.ensure_stream()
    for stream in (new_record(), new_record()):
        await store(log, *planted_drafts(stream))
    alone = await store(log, draft(stream := new_record(), traits(a=PLANTED[1])))
    await store(log, draft(stream, traits(b=PLANTED[1])), after=alone)
    for value in PLANTED:
        assert not [p for form in forms(value) for p in files_with(tmp_path, form)]
    await store(plain, *planted_drafts(new_record()))
    for value in PLANTED:
        assert files_with(tmp_path, value.encode()), "the search would not find what is there"
    await connection.close()


async def test_wrapped_keys_are_gone_at_once_when_destroyed_or_rotated(
    own_server: EmbeddedServer, source: Source, tmp_path: Path
) -> None:
    connection = await connect(own_server)
    log, ring = await sealed_log(connection, "wrapped", source)
    streams = [new_record() for _ in range(20)]
    await store(log, *(draft(stream, traits(a=1)) for stream in streams))
    wrapped = [body for s in streams for body in await wrapped_keys(connection, "wrapped", s)]
    assert all(files_with(tmp_path, body) for body in wrapped)
    await ring.destroy([record_id(stream) for stream in streams[:5]])
    assert not [form for body in wrapped[:5] for form in rest_as(body, tmp_path)]
    assert all(files_with(tmp_path, body) for body in wrapped[5:])
    source.renew()
    assert await ring.store.rotate() == 15
    assert not [form for body in wrapped for form in rest_as(body, tmp_path)]
    renewed = [body for s in streams for body in await wrapped_keys(connection, "wrapped", s)]
    assert len(renewed) == 15
    assert all(files_with(tmp_path, body) for body in renewed)
    await own_server.kill()
    await own_server.wait_ready(timeout_seconds=20)
    assert not [body for body in wrapped if files_with(tmp_path, body)]
    await log.close()
    await connection.close()


async def test_after_destruction_everything_that_reads_goes_on(
    connection: Connection, source: Source
) -> None:
    workspace = new_workspace()
    log, ring = await sealed_log(connection, workspace, source)
    other, _ = await sealed_log(connection, workspace, source)
    gone, kept = new_record(), new_record()
    stored = await store(log, *planted_drafts(gone))
    await store(log, draft(kept, traits(city="Kyoto")))
    assert [e.event and e.event.is_erased for e in await other.load(gone)] == [False] * 4
    await ring.destroy([record_id(gone)])

    async def is_erased() -> bool:
        return all(e.event and e.event.is_erased for e in await other.load(gone))

    await until_async(is_erased)
    assert (await other.load(gone))[-1].head == stored.heads[gone]
    assert (await other.last_entries([gone]))[gone].head == stored.heads[gone]
    tables = await fold_log(other)
    view = customer_view(tables, record_id(gone), "audit")
    assert view is not None
    assert (view.identifiers, view.traits, view.tallies) == ((), (), ())
    projected = MemoryTables(row_codec(log))
    async for batch in log.read():
        await with_keys(projected.codec, partial(folded, projected, batch))
    assert (await verify(other, projected)).holds
    assert customer_view(projected, record_id(kept), "audit") != view
    refused = await other.append(attempt(draft(gone), expected=stored.heads), timeout_seconds=5)
    assert getattr(refused, "reason", None) == "RECORD_ERASED"


async def test_keys_of_many_records_take_a_few_requests(
    connection: Connection, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = new_workspace()
    log, _ = await sealed_log(connection, workspace, source)
    streams = [new_record() for _ in range(1_000)]
    counted: list[str] = []
    for name in ("read", "write", "newest", "read_newest"):
        original = getattr(KeyStream, name)

        def count(self: KeyStream, asked: object, _original=original, _name=name):  # type: ignore[no-untyped-def]
            counted.append(_name)
            return _original(self, asked)

        monkeypatch.setattr(KeyStream, name, count)
    await store(log, *(draft(stream, traits(a=1)) for stream in streams))
    assert counted == ["read_newest", "write", "newest"]
    counted.clear()
    cold, _ = await sealed_log(connection, workspace, source)
    counted.clear()
    assert sum([len(entries) async for entries in cold.read()]) == 1_000
    assert len(counted) <= 4
    cold, _ = await sealed_log(connection, workspace, source)
    counted.clear()
    loaded = await cold.load_many(dict.fromkeys(streams, EMPTY))
    assert all(entry.event for entries in loaded.values() for entry in entries)
    assert counted == ["read"]


async def test_writers_go_on_while_the_workspace_key_is_rotated(
    connection: Connection, source: Source
) -> None:
    workspace = new_workspace()
    log, ring = await sealed_log(connection, workspace, source)
    await store(log, *(draft(new_record(), traits(a=1)) for _ in range(200)))
    writers = [await sealed_log(connection, workspace, source) for _ in range(3)]
    written: list[Stream] = []
    is_over = asyncio.Event()

    async def write(to: JetStreamEventLog) -> None:
        while not is_over.is_set():
            streams = [new_record() for _ in range(5)]
            outcome = await to.append(
                attempt(*(draft(s, traits(a=1)) for s in streams)), timeout_seconds=10
            )
            assert isinstance(outcome, Stored)
            written.extend(streams)

    tasks = [asyncio.create_task(write(to)) for to, _ in writers]
    source.renew()
    await ring.store.rotate()
    is_over.set()
    await asyncio.gather(*tasks)
    assert written
    stream = KeyStream(JetStreamApi(connection), workspace)
    assert await stream.page("1", 0, size=10) == []
    cold, _ = await sealed_log(connection, workspace, source)
    entries = [entry async for batch in cold.read() for entry in batch]
    assert len(entries) == 200 + len(written)
    assert all(entry.event and not entry.event.is_erased for entry in entries)


@pytest.mark.parametrize(
    ("dies_after", "call"), [("write", 1), ("pad", 1), ("write", 3), ("write", 4), ("purge", 1)]
)
async def test_a_rotation_that_was_killed_is_taken_up_again(
    connection: Connection,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    *,
    dies_after: str,
    call: int,
) -> None:
    workspace = new_workspace()
    log, ring = await sealed_log(connection, workspace, source)
    streams = [new_record() for _ in range(1_400)]
    for some in (streams[:700], streams[700:]):
        await store(log, *(draft(stream, traits(a=1)) for stream in some))
    source.renew()
    original = getattr(KeyStream, dies_after)
    calls = 0

    async def die(self: KeyStream, *asked: object) -> object:
        nonlocal calls
        calls += 1
        done = await original(self, *asked)
        if calls == call:
            raise asyncio.CancelledError
        return done

    with monkeypatch.context() as patch:
        patch.setattr(KeyStream, dies_after, die)
        with pytest.raises(asyncio.CancelledError):
            await ring.store.rotate()
    killed = JetStreamKeyStore(connection, workspace, source=source)
    await killed.open()
    left = {("write", 4): 401, ("purge", 1): 0}.get((dies_after, call), 1_400)
    assert await killed.rotate() == left
    assert await killed.rotate() == 0
    assert await KeyStream(JetStreamApi(connection), workspace).page("1", 0, size=10) == []
    cold, _ = await sealed_log(connection, workspace, source)
    entries = [entry async for batch in cold.read() for entry in batch]
    assert all(entry.event and not entry.event.is_erased for entry in entries)


async def test_a_destruction_that_was_killed_is_finished_by_calling_again(
    connection: Connection, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = new_workspace()
    log, ring = await sealed_log(connection, workspace, source)
    stream = new_record()
    await store(log, draft(stream, traits(a=1)))

    async def die(_self: KeyStream, _asked: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(KeyStream, "erase", die)
        with pytest.raises(asyncio.CancelledError):
            await ring.destroy([record_id(stream)])
    cold, cold_ring = await sealed_log(connection, workspace, source)
    [entry] = await cold.load(stream)
    assert entry.event is not None
    assert entry.event.is_erased
    assert await wrapped_keys(connection, workspace, stream)
    await cold_ring.destroy([record_id(stream)])
    assert not await wrapped_keys(connection, workspace, stream)


async def test_another_workspace_key_is_refused_and_parks_nobody(
    connection: Connection, source: Source
) -> None:
    workspace = new_workspace()
    log, _ = await sealed_log(connection, workspace, source)
    await store(log, draft(new_record(), traits(a=1)))
    with pytest.raises(WorkspaceKeyMissing, match="not the one"):
        await sealed_log(connection, workspace, Source())
    source.renew()
    await (await sealed_log(connection, workspace, source))[1].store.rotate()
    forgetful = Source()
    forgetful.keys = type(source.keys)({1: source.keys.by_version[1]})
    store_of_old = JetStreamKeyStore(connection, workspace, source=forgetful)
    store_of_old._keys, store_of_old._active = forgetful.keys, 1
    old = JetStreamEventLog(connection, workspace, keys=KeyRing(store_of_old))
    with pytest.raises(WorkspaceKeyMissing, match="version 2"):
        [batch async for batch in old.read()]


async def test_a_destruction_is_heard_of_after_the_server_was_away(
    own_server: EmbeddedServer, source: Source
) -> None:
    connection, far = await connect(own_server), await connect(own_server)
    log, ring = await sealed_log(connection, "away", source)
    _, far_ring = await sealed_log(far, "away", source)
    streams = [new_record() for _ in range(2)]
    await store(log, *(draft(stream, traits(a=1)) for stream in streams))
    ids = [record_id(stream) for stream in streams]
    made = await far_ring.load(ids)
    for record, stream in zip(ids, streams, strict=True):
        await own_server.kill()
        await own_server.wait_ready(timeout_seconds=20)
        assert await connection.wait_connected(timeout_seconds=20)
        await ring.destroy([record])
        await until(lambda record=record: made[record] not in far_ring._held.values())  # type: ignore[misc]
        await log.load(stream)
    for one in (ring, far_ring):
        await one.close()
    for link in (connection, far):
        await link.close()
