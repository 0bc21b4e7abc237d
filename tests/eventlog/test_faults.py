"""Appends whose outcome is in doubt (R2), and servers that die under load."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from domain.ids import EventId
from eventlog.connection import Connection, Received
from eventlog.errors import LogDamaged
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import EMPTY, Conflict, Head, Refused, Stored, Unknown
from eventlog.server import EmbeddedServer
from eventlog.wire import Outbound
from tests.support.events import attempt, draft, new_record, store, touched
from tests.support.nats import connect, new_workspace
from tests.support.proxy import Proxy, proxy_to
from tests.support.waiting import until, until_async


@pytest_asyncio.fixture
async def proxy(nats_server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with proxy_to(nats_server.url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def far_log(
    proxy: Proxy, jetstream_log: JetStreamEventLog
) -> AsyncIterator[JetStreamEventLog]:
    """The same log as `jetstream_log`, through the proxy."""
    connection = await Connection.open(proxy.url, name="far")
    yield JetStreamEventLog(connection, jetstream_log.workspace)
    await connection.close()


@pytest.mark.parametrize("events", [1, 3])
async def test_a_lost_acknowledgement_is_settled_as_stored_and_not_stored_again(
    proxy: Proxy, far_log: JetStreamEventLog, jetstream_log: JetStreamEventLog, events: int
) -> None:
    drafts = [draft(new_record()) for _ in range(events)]
    proxy.swallows_answers = True
    appending = asyncio.create_task(far_log.append(attempt(*drafts), timeout_seconds=20))

    async def is_stored() -> bool:
        return (await jetstream_log.shape()).last_revision == events

    await until_async(is_stored)
    proxy.cut()
    outcome = await appending
    assert isinstance(outcome, Stored)
    assert [e.revision for e in outcome.events] == list(range(1, events + 1))
    assert (await jetstream_log.shape()).last_revision == events
    for one in drafts:
        [entry] = await jetstream_log.load(one.stream)
        assert outcome.heads[one.stream] == entry.head


@pytest.mark.parametrize("events", [1, 3])
async def test_a_lost_request_is_sent_again(
    proxy: Proxy, far_log: JetStreamEventLog, jetstream_log: JetStreamEventLog, events: int
) -> None:
    proxy.swallows_requests = True
    drafts = [draft(new_record()) for _ in range(events)]
    appending = asyncio.create_task(far_log.append(attempt(*drafts), timeout_seconds=20))
    await asyncio.wait({appending}, timeout=0.2)
    assert not appending.done()
    proxy.cut()
    outcome = await appending
    assert isinstance(outcome, Stored)
    assert (await jetstream_log.shape()).last_revision == events


async def test_a_lost_request_is_a_conflict_where_another_writer_was_faster(
    proxy: Proxy, far_log: JetStreamEventLog, jetstream_log: JetStreamEventLog
) -> None:
    streams = [new_record(), new_record()]
    proxy.swallows_requests = True
    appending = asyncio.create_task(
        far_log.append(attempt(*map(draft, streams)), timeout_seconds=20)
    )
    # The second stream: the first, which is looked at first, shows nothing.
    await store(jetstream_log, draft(streams[1]))
    proxy.cut()
    assert await appending == Conflict()
    assert (await jetstream_log.shape()).last_revision == 1


@pytest.mark.parametrize("events", [1, 3])
@pytest.mark.parametrize("also_reaches", ["the leader", "nobody"])
async def test_a_conflict_that_the_log_does_not_show_is_none(
    jetstream_log: JetStreamEventLog,
    monkeypatch: pytest.MonkeyPatch,
    events: int,
    also_reaches: str,
) -> None:
    """A leader that was replaced says conflict; the one that leads now got the message too."""
    connection = jetstream_log._api.connection
    request_all = connection.request_all
    deposed = [Received("", "", b'{"error":{"code":400,"err_code":10071}}', None)]

    async def answer_as_deposed(messages: Sequence[Outbound], **kwargs: Any) -> Sequence[Received]:
        if also_reaches == "the leader":
            await request_all(messages, **kwargs)
        monkeypatch.setattr(connection, "request_all", request_all)
        return deposed

    monkeypatch.setattr(connection, "request_all", answer_as_deposed)
    one = attempt(*(draft(new_record()) for _ in range(events)))
    outcome = await jetstream_log.append(one, timeout_seconds=20)
    assert isinstance(outcome, Stored)
    assert [e.event_id for e in outcome.events] == [d.event_id for d in one.drafts]
    assert (await jetstream_log.shape()).last_revision == events


@pytest.mark.parametrize("events", [1, 3])
async def test_an_expectation_that_the_log_never_reached_is_a_conflict(
    jetstream_log: JetStreamEventLog, events: int
) -> None:
    drafts = [draft(new_record()) for _ in range(events)]
    beyond = {drafts[-1].stream: Head(7, 1, bytes(32))}
    one = attempt(*drafts, expected={d.stream: EMPTY for d in drafts} | beyond)
    assert await jetstream_log.append(one, timeout_seconds=20) == Conflict()


async def test_half_a_batch_is_never_taken_for_the_whole(
    proxy: Proxy, far_log: JetStreamEventLog, jetstream_log: JetStreamEventLog
) -> None:
    one = attempt(*(draft(new_record()) for _ in range(3)))
    proxy.swallows_requests = True
    appending = asyncio.create_task(far_log.append(one, timeout_seconds=2))
    # As a server leaves it whose disk ran full in the middle of the batch.
    messages = jetstream_log._appender._outgoing.prepare(one)
    assert not isinstance(messages, Refused)
    half = [Outbound(m.subject, {}, m.body, m.lines) for m in messages[:2]]
    for message in half:
        await jetstream_log._api.connection.request_all([message], timeout_seconds=5)
    proxy.cut()
    assert await appending == Unknown()
    assert (await jetstream_log.shape()).last_revision == 2


async def test_an_append_to_a_server_that_does_not_answer_stays_unknown(
    own_server: EmbeddedServer,
) -> None:
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    stream = new_record()
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        outcome = await log.append(attempt(draft(stream)), timeout_seconds=0.5)
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
    assert outcome == Unknown()
    await connection.close()


async def test_an_append_outlasts_a_server_that_stops_for_longer_than_a_try(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventlog.appender.TRY_SECONDS_MAX", 0.2)
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    stream = new_record()
    os.kill(own_server.pid, signal.SIGSTOP)
    appending = asyncio.create_task(log.append(attempt(draft(stream)), timeout_seconds=20))
    await asyncio.wait({appending}, timeout=1.0)
    assert not appending.done()
    os.kill(own_server.pid, signal.SIGCONT)
    assert isinstance(await appending, Stored)
    assert len(await log.load(stream)) == 1
    await connection.close()


async def test_an_append_that_was_surely_not_sent_is_refused_as_unavailable(
    own_server: EmbeddedServer,
) -> None:
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    await own_server.stop()
    await until(lambda: not connection.is_connected)
    outcome = await log.append(attempt(draft(new_record())), timeout_seconds=0.3)
    assert outcome == Refused("LOG_UNAVAILABLE")
    await connection.close()


async def _write(
    log: JetStreamEventLog, events: int, acknowledged: list[EventId], stop: asyncio.Event
) -> None:
    """Append to a few streams of its own until told to stop, each append after the one before."""
    streams = [new_record() for _ in range(events)]
    after: Stored | None = None
    while not stop.is_set():
        drafts = [draft(stream, touched()) for stream in streams]
        expected = after.heads if after else {}
        outcome = await log.append(attempt(*drafts, expected=expected), timeout_seconds=30)
        assert isinstance(outcome, Stored), outcome
        acknowledged.extend(d.event_id for d in drafts)
        after = outcome


async def _follow(log: JetStreamEventLog, seen: list[tuple[int, EventId]]) -> None:
    async for entries in log.follow(after_revision=0):
        for entry in entries:
            assert entry.event is not None
            seen.append((entry.revision, entry.event.event_id))


async def test_what_was_acknowledged_is_there_exactly_once_whatever_dies(
    own_server: EmbeddedServer,
) -> None:
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    acknowledged: list[EventId] = []
    seen: list[tuple[int, EventId]] = []
    stop = asyncio.Event()
    following = asyncio.create_task(_follow(log, seen))
    async with asyncio.TaskGroup() as writers:
        for events in (1, 1, 1, 1, 2, 7, 40):
            writers.create_task(_write(log, events, acknowledged, stop))
        for kills in range(1, 5):
            enough = len(acknowledged) + 300
            await until(lambda enough=enough: len(acknowledged) > enough)  # type: ignore[misc]
            await own_server.kill()
            await own_server.wait_ready(timeout_seconds=20)
            assert own_server.restarts == kills
        stop.set()
    last = (await log.shape()).last_revision
    await until(lambda: bool(seen) and seen[-1][0] == last)
    following.cancel()
    stored = [e.event.event_id async for batch in log.read() for e in batch if e.event]
    assert set(Counter(stored).values()) == {1}
    assert sorted(stored) == sorted(acknowledged)
    assert [revision for revision, _ in seen] == list(range(1, last + 1))
    assert [event_id for _, event_id in seen] == stored
    await connection.close()


async def test_a_log_that_ends_before_what_was_read_of_it_is_damaged(
    jetstream_log: JetStreamEventLog,
) -> None:
    await store(jetstream_log, draft(new_record()))
    for batches in (jetstream_log.read(after_revision=2), jetstream_log.follow(after_revision=2)):
        with pytest.raises(LogDamaged):
            await anext(batches)


async def test_a_foreign_message_spoils_its_own_stream_alone(
    jetstream_log: JetStreamEventLog, connection: Connection
) -> None:
    spoilt, whole = new_record(), new_record()
    await store(jetstream_log, draft(spoilt), draft(whole))
    subject = f"koseki.{jetstream_log.workspace}.record.{spoilt.key}"
    await connection.request(subject, b"{}", timeout_seconds=5)
    with pytest.raises(LogDamaged):
        await jetstream_log.load(spoilt)
    assert len(await jetstream_log.load(whole)) == 1
    entries = [e async for batch in jetstream_log.read() for e in batch]
    assert [e.fault for e in entries] == [None, None, "envelope: header ce-specversion is missing"]
    assert entries[2].event is None
