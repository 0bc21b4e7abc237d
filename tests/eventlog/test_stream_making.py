"""A stream is found or made, whatever gets lost on the way, and made once."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable, UnsafeStream
from eventlog.jetstream_api import ApiError, JetStreamApi
from eventlog.server import EmbeddedServer
from eventlog.stream_config import log_config
from eventlog.stream_making import find_or_make
from eventlog.subjects import Subjects
from tests.support.nats import new_workspace
from tests.support.proxy import proxy_to
from tests.support.waiting import until_async


async def test_a_stream_whose_making_was_not_answered_is_found(
    nats_server: EmbeddedServer, connection: Connection
) -> None:
    api, subjects = JetStreamApi(connection), Subjects(new_workspace())

    async def is_made() -> bool:
        try:
            await api.call(f"STREAM.INFO.{subjects.log_name}")
        except ApiError:
            return False
        return True

    async with proxy_to(nats_server.url) as proxy:
        through = await Connection.open(proxy.url)
        proxy.loses_answers_to = b"STREAM.CREATE"
        making = asyncio.create_task(
            find_or_make(JetStreamApi(through), log_config(subjects, replicas=1))
        )
        await until_async(is_made)
        proxy.cut()
        assert (await making)["config"]["name"] == subjects.log_name
        await through.close()


async def test_what_nobody_answers_ends_when_the_time_is_up(nats_server: EmbeddedServer) -> None:
    async with proxy_to(nats_server.url) as proxy:
        through = await Connection.open(proxy.url)
        proxy.swallows_requests = True
        config = log_config(Subjects(new_workspace()), replicas=1)
        with pytest.raises(LogUnavailable):
            await find_or_make(JetStreamApi(through), config, timeout_seconds=0.2)
        await through.close()


async def test_of_many_who_make_a_stream_each_gets_the_one_that_was_made(
    connection: Connection,
) -> None:
    api, subjects = JetStreamApi(connection), Subjects(new_workspace())
    config = log_config(subjects, replicas=1)
    wanted = [config | {"metadata": {"by": str(number)}} for number in range(10)]
    found = await asyncio.gather(*(find_or_make(api, each) for each in wanted))
    assert len({info["config"]["metadata"]["by"] for info in found}) == 1


async def test_a_stream_that_needs_more_servers_than_there_are_is_refused(
    connection: Connection,
) -> None:
    config = log_config(Subjects(new_workspace()), replicas=3)
    with pytest.raises(UnsafeStream, match="it needs a cluster of 3 servers"):
        await find_or_make(JetStreamApi(connection), config)
