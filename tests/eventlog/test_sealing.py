"""Sealed bodies, on a log in memory: what rests, what is read, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from domain.consent_events import ConsentGiven
from domain.event import Event
from domain.identity import Identifier
from domain.identity_events import IdentifiersLinked
from domain.ids import IdentifierKey, RecordId, Stream
from domain.record import fold, unborn
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Refused, Stored
from tests.contracts.event_log import EventLogContract
from tests.support.events import NOON, attempt, draft, new_id, new_record, store, touched, traits
from tests.support.sealed import record_id
from tests.support.waiting import until, until_async

KEY = IdentifierKey("p1.c2Vjb25k-_")
PERSONAL_EVENTS: tuple[Event, ...] = (
    IdentifiersLinked(
        source="shop",
        keys=(KEY,),
        identifiers=(Identifier(namespace="email", value="planted@value.jp", key=KEY),),
    ),
    TraitsSet(source="shop", traits={"planted": "planted"}, message_id="planted"),
    SignalsRecorded(
        source="shop",
        signals=(Signal(message_id="planted", name="planted", happened_at=NOON),),
    ),
    SignalsDeclined(source="shop", reason="closed", message_ids=("planted",)),
    ConsentGiven(act_id=new_id(), purpose="marketing", evidence={"a": "planted"}, method="planted"),
)


@pytest.fixture
def keys() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
def log(keys: MemoryKeyStore) -> MemoryEventLog:
    return MemoryEventLog("memory", keys=KeyRing(keys))


class TestSealedMemoryEventLog(EventLogContract):
    pass


async def store_all(log: MemoryEventLog, stream: Stream) -> Stored:
    return await store(log, *(draft(stream, body) for body in PERSONAL_EVENTS))


async def test_personal_fields_rest_sealed_and_are_read_as_they_were(log: MemoryEventLog) -> None:
    stream = new_record()
    await store_all(log, stream)
    for row, body in zip(log._rows, PERSONAL_EVENTS, strict=True):
        assert b"planted" not in row.body
        assert row.headers["koseki-keyid"] == "record/1"
        assert orjson.loads(row.body).keys().isdisjoint(body.PERSONAL)
    entries = await log.load(stream)
    assert [entry.event and entry.event.body for entry in entries] == list(PERSONAL_EVENTS)
    assert not any(entry.event and entry.event.is_erased for entry in entries)


async def test_the_same_event_never_rests_as_the_same_bytes(log: MemoryEventLog) -> None:
    first, second = draft(new_record()), draft(new_record())
    await store(log, first, second._replace(event_id=first.event_id))
    assert log._rows[0].body != log._rows[1].body


async def test_what_is_not_personal_makes_no_key(log: MemoryEventLog, keys: MemoryKeyStore) -> None:
    stream = new_record()
    await store(log, draft(stream, touched()))
    assert keys.requests == 0
    [entry] = await log.load(stream)
    assert entry.event is not None
    assert log._rows[0].headers["koseki-keyid"] == "none"


@pytest.mark.parametrize("moved", ["record", "event"])
async def test_a_body_moved_to_another_place_does_not_open(log: MemoryEventLog, moved: str) -> None:
    one, two = new_record(), new_record()
    await store(log, draft(one), draft(two))
    row, other = log._rows
    headers = dict(row.headers)
    if moved == "event":
        headers["ce-id"] = other.headers["ce-id"]
        log._rows[0] = replace(row, headers=headers)
    else:
        log._rows[0] = replace(row, subject=other.subject)
    [entry] = [e async for batch in log.read() for e in batch if e.revision == 1]
    assert entry.event is None
    assert entry.fault == "body: the seal does not hold"


@pytest.mark.parametrize("sealed", ["", "AAAA", "?", 7, None])
async def test_a_sealed_part_that_was_changed_is_undecodable(
    log: MemoryEventLog, sealed: object
) -> None:
    stream = new_record()
    await store(log, draft(stream))
    log.damage_body(1, orjson.dumps({"source": "shop", "sealed": sealed}))
    [entry] = await log.load(stream)
    assert entry.event is None
    assert entry.fault in ("body: the seal does not hold", "body: the sealed part is missing")


async def test_every_bit_of_the_sealed_part_counts(log: MemoryEventLog) -> None:
    stream = new_record()
    await store(log, draft(stream))
    body = log._rows[0].body
    start = body.index(b'"sealed":"') + 10
    end = body.index(b'"', start)
    for place in range(start, end):
        other = b"A" if body[place : place + 1] != b"A" else b"B"
        log.damage_body(1, body[:place] + other + body[place + 1 :])
        [entry] = await log.load(stream)
        assert entry.fault == "body: the seal does not hold"


async def test_a_key_that_was_never_made_is_a_fault_and_not_an_erasure(
    log: MemoryEventLog,
) -> None:
    stream = new_record()
    await store(log, draft(stream))
    other = MemoryEventLog("memory", keys=KeyRing(MemoryKeyStore()))
    other._rows, other._revisions = log._rows, log._revisions
    [entry] = await other.load(stream)
    assert entry.event is None
    assert entry.fault == "body: the body is sealed under a key that was never made"


async def test_an_erased_record_keeps_its_identity_its_consent_and_its_chain(
    log: MemoryEventLog, keys: MemoryKeyStore
) -> None:
    stream = new_record()
    stored = await store_all(log, stream)
    await KeyRing(keys).destroy([record_id(stream)])

    async def is_erased() -> bool:
        return all(entry.event and entry.event.is_erased for entry in await log.load(stream))

    await until_async(is_erased)
    entries = await log.load(stream)
    events = [entry.event for entry in entries if entry.event]
    for event, body in zip(events, PERSONAL_EVENTS, strict=True):
        assert event.body == body.model_copy(update=dict(body.PERSONAL))
        assert "planted" not in repr(event)
    assert [entry.digest for entry in entries][-1] == stored.heads[stream].digest
    record = fold(unborn(record_id(stream)), events)
    assert record.identifiers == {KEY: None}
    assert [act.purpose for act in record.acts] == ["marketing"]


async def test_nothing_personal_is_stored_for_an_erased_record(
    log: MemoryEventLog, keys: MemoryKeyStore
) -> None:
    stream = new_record()
    await keys.destroy([record_id(stream)])
    refused = await log.append(attempt(draft(stream)), timeout_seconds=5)
    assert refused == Refused("RECORD_ERASED")
    await store(log, draft(stream, touched()))


async def test_a_key_store_that_is_away_stores_nothing(
    log: MemoryEventLog, keys: MemoryKeyStore
) -> None:
    keys.is_available = False
    outcome = await log.append(attempt(draft(new_record())), timeout_seconds=0.05)
    assert outcome == Refused("LOG_UNAVAILABLE")
    assert (await log.shape()).last_revision == 0


async def test_a_key_store_that_comes_back_in_time_is_waited_for(
    log: MemoryEventLog, keys: MemoryKeyStore
) -> None:
    keys.is_available = False
    appending = asyncio.create_task(log.append(attempt(draft(new_record())), timeout_seconds=10))
    await asyncio.wait({appending}, timeout=0.05)
    keys.is_available = True
    assert isinstance(await appending, Stored)


class TestKeyRing:
    async def test_keys_are_asked_for_once_and_together(self, keys: MemoryKeyStore) -> None:
        log = MemoryEventLog("memory", keys=KeyRing(keys))
        streams = [new_record() for _ in range(900)]
        await store(log, *(draft(stream, traits(n=1)) for stream in streams))
        assert keys.requests == 1
        cold = MemoryEventLog("memory", keys=KeyRing(keys))
        cold._rows, cold._revisions = log._rows, log._revisions
        await cold.load_many(dict.fromkeys(streams, EMPTY))
        await cold.load_many(dict.fromkeys(streams, EMPTY))
        assert keys.requests == 2
        cold = MemoryEventLog("memory", keys=KeyRing(keys))
        cold._rows, cold._revisions = log._rows, log._revisions
        assert sum([len(batch) async for batch in cold.read()]) == 900
        assert keys.requests == 3

    async def test_callers_who_ask_meanwhile_share_a_request(self, keys: MemoryKeyStore) -> None:
        ring = KeyRing(keys)
        ids = [RecordId(new_id()) for _ in range(64)]
        await keys.ensure(ids)
        before = keys.requests
        await asyncio.gather(*(ring.load([record]) for record in ids))
        assert keys.requests <= before + 2

    async def test_it_holds_so_many_keys_and_answers_for_more(self, keys: MemoryKeyStore) -> None:
        ring = KeyRing(keys, keys_max=10)
        ids = [RecordId(new_id()) for _ in range(50)]
        made = await ring.ensure(known=(), new=ids)
        assert set(made) == set(ids)
        assert len(ring) == 10
        assert await ring.load(ids) == made

    async def test_a_destroyed_key_leaves_every_ring(self, keys: MemoryKeyStore) -> None:
        here, there = KeyRing(keys), KeyRing(keys)
        one, two = RecordId(new_id()), RecordId(new_id())
        made = await here.ensure(known=(), new=[one, two])
        assert await there.load([one, two]) == made
        await here.destroy([one])
        await until(lambda: made[one] not in there._held.values())
        assert made[two] in there._held.values()
        await here.close()
        await there.close()
        assert len(there) == 0
