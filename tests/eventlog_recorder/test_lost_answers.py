"""An insert whose answer is lost is settled by the log, or says that it could not be."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from eventlog.jetstream_api import JetStreamApi
from eventlog.recorder.errors import OutcomeUnknown, VersionConflict
from eventlog.server import EmbeddedServer
from tests.eventlog_recorder.reading import event, events
from tests.eventlog_recorder.servers import Servers, factory, new_application
from tests.support.proxy import proxy_to
from tests.support.waiting import until_async


async def last_sequence(server: EmbeddedServer, name: str) -> int:
    connection = await Servers.connect(server.url)
    info = await JetStreamApi(connection).call(f"STREAM.INFO.koseki-{name}-log")
    await connection.close()
    return int(info["state"]["last_seq"])


async def test_an_insert_whose_answer_is_lost_is_settled_by_the_log(
    own_server: EmbeddedServer,
) -> None:
    name, order = new_application(), uuid4()

    async def is_stored() -> bool:
        return await last_sequence(own_server, name) == 3

    async with proxy_to(own_server.url) as proxy:
        made = factory(KOSEKI_NATS_URL=proxy.url, KOSEKI_REPLICAS="1", KOSEKI_APPLICATION=name)
        recorder = await asyncio.to_thread(made.application_recorder)
        await asyncio.to_thread(recorder.insert_events, events(order, 1))
        proxy.loses_answers_to = b"Nats-Batch-Commit"
        insert = asyncio.create_task(asyncio.to_thread(recorder.insert_events, events(order, 2, 3)))
        await until_async(is_stored)
        proxy.cut()
        assert await insert == [2, 3]
        with pytest.raises(VersionConflict):
            await asyncio.to_thread(recorder.insert_events, events(order, 3))
        found = await asyncio.to_thread(recorder.select_events, order)
        assert [e.originator_version for e in found] == [1, 2, 3]
        await asyncio.to_thread(made.close)


async def test_an_insert_under_which_the_factory_is_closed_has_an_unknown_outcome(
    own_server: EmbeddedServer,
) -> None:
    name = new_application()

    async def is_stored() -> bool:
        return await last_sequence(own_server, name) == 1

    async with proxy_to(own_server.url) as proxy:
        made = factory(KOSEKI_NATS_URL=proxy.url, KOSEKI_REPLICAS="1", KOSEKI_APPLICATION=name)
        recorder = await asyncio.to_thread(made.application_recorder)
        proxy.loses_answers_to = b"HPUB"
        insert = asyncio.create_task(asyncio.to_thread(recorder.insert_events, [event()]))
        await until_async(is_stored)
        await asyncio.to_thread(made.close)
        with pytest.raises(OutcomeUnknown):
            await insert


async def test_an_insert_without_an_answer_has_an_unknown_outcome_at_its_deadline(
    own_server: EmbeddedServer,
) -> None:
    async with proxy_to(own_server.url) as proxy:
        made = factory(KOSEKI_NATS_URL=proxy.url, KOSEKI_REPLICAS="1", KOSEKI_TIMEOUT_SECONDS="0.5")
        recorder = await asyncio.to_thread(made.application_recorder)
        proxy.loses_answers_to = b"HPUB"
        with pytest.raises(OutcomeUnknown):
            await asyncio.to_thread(recorder.insert_events, [event()])
        proxy.cut()
        await asyncio.to_thread(made.close)
