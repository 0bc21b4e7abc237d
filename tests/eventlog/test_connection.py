from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from eventlog import connection as connection_module
from eventlog.connection import Connection, NotSent
from eventlog.errors import LogUnavailable
from eventlog.nats_client import Received
from eventlog.server import EmbeddedServer
from tests.support.nats import connect
from tests.support.proxy import proxy_to
from tests.support.waiting import until


@pytest.fixture
def _quick_watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(connection_module, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(connection_module, "ROUND_TRIP_SECONDS_MAX", 0.5)
    return iter(())


async def _echo(connection: Connection, subject: str) -> list[Received]:
    heard: list[Received] = []

    answering = set()

    def answer(message: Received) -> None:
        heard.append(message)
        task = asyncio.create_task(connection.publish(message.reply, message.data.upper()))
        answering.add(task)
        task.add_done_callback(answering.discard)

    await connection.subscribe(subject, answer)
    return heard


async def _answers(connection: Connection, subject: str) -> bool:
    """Ask until an answer comes: right after a fault, a request may meet its last moments."""
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await connection.request(subject, b"a", timeout_seconds=1)
            except LogUnavailable:
                await connection.wait_connected(timeout_seconds=1)
            else:
                return answer.data == b"A"


async def _fill(connection: Connection) -> list[asyncio.Task[None]]:
    """Fill all buffers on the way to a server that reads nothing, the client's too."""
    block = bytes(connection.payload_bytes_max)
    publishing = []
    for _ in range(3):
        publishing += [asyncio.create_task(connection.publish("much", block)) for _ in range(12)]
        await asyncio.wait(publishing, timeout=0.05)
    return publishing


async def test_requests_are_answered(connection: Connection) -> None:
    heard = await _echo(connection, "echo.once")
    answer = await connection.request("echo.once", b"a", headers={"h": "v"}, timeout_seconds=5)
    assert answer.data == b"A"
    assert heard[0].headers == {"h": "v"}


async def test_many_requests_share_the_connection(connection: Connection) -> None:
    await _echo(connection, "echo.many")
    answers = await asyncio.gather(
        *(connection.request("echo.many", b"%d" % i, timeout_seconds=10) for i in range(500))
    )
    assert [a.data for a in answers] == [b"%d" % i for i in range(500)]


async def test_a_request_that_nobody_takes_was_not_done(connection: Connection) -> None:
    with pytest.raises(NotSent):
        await connection.request("echo.nobody", timeout_seconds=5)


async def test_a_request_that_nobody_answers_ends_at_its_deadline(connection: Connection) -> None:
    def ignore(message: Received) -> None:
        pass

    await connection.subscribe("echo.silent", ignore)
    with pytest.raises(LogUnavailable) as raised:
        await connection.request("echo.silent", timeout_seconds=0.1)
    assert not isinstance(raised.value, NotSent)


async def test_requests_in_flight_end_when_the_connection_is_lost(
    nats_server: EmbeddedServer,
) -> None:
    async with proxy_to(nats_server.url) as proxy:
        connection = await Connection.open(proxy.url)
        proxy.swallows_answers = True
        asking = asyncio.create_task(connection.request("echo.lost", timeout_seconds=60))
        await asyncio.wait({asking}, timeout=0.1)
        proxy.cut()
        with pytest.raises(LogUnavailable):
            await asking
        assert await connection.wait_connected(timeout_seconds=10)
        await connection.close()


@pytest.mark.usefixtures("_quick_watch")
async def test_a_dead_read_loop_is_noticed_and_subscriptions_go_on(
    nats_server: EmbeddedServer,
) -> None:
    connection = await connect(nats_server)
    await _echo(connection, "echo.dead")
    reading = connection._client._reading_task
    assert reading is not None
    reading.cancel()
    await until(lambda: connection.rebuilds >= 1)
    assert await _answers(connection, "echo.dead")
    await connection.close()


@pytest.mark.usefixtures("_quick_watch")
async def test_a_server_that_stands_still_is_noticed_however_much_waits_to_be_sent_to_it(
    own_server: EmbeddedServer,
) -> None:
    """nats-py loses the time-out of whoever waits for its full buffer."""
    connection = await connect(own_server)
    os.kill(own_server.pid, signal.SIGSTOP)
    publishing = await _fill(connection)
    try:
        await until(lambda: connection.rebuilds >= 1)
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
        await asyncio.gather(*publishing, return_exceptions=True)
    await _echo(connection, "echo.still")
    assert await _answers(connection, "echo.still")
    await connection.close()


async def test_who_is_cancelled_while_a_full_buffer_is_sent_ends(
    own_server: EmbeddedServer,
) -> None:
    connection = await connect(own_server)
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        waiting = [task for task in await _fill(connection) if not task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert waiting
        assert all(task.cancelled() for task in waiting)
        async with asyncio.timeout(10):
            await connection.close()
    finally:
        os.kill(own_server.pid, signal.SIGCONT)


async def test_subscriptions_outlast_a_restart_of_the_server(own_server: EmbeddedServer) -> None:
    connection = await connect(own_server)
    await _echo(connection, "echo.restart")
    await own_server.kill()
    await own_server.wait_ready(timeout_seconds=20)
    assert await _answers(connection, "echo.restart")
    await connection.close()


async def test_no_server_is_an_error_within_the_deadline() -> None:
    with pytest.raises(LogUnavailable):
        await Connection.open("nats://127.0.0.1:1", timeout_seconds=0.3)


async def test_another_server_at_the_address_is_noticed(nats_server: EmbeddedServer) -> None:
    connection = await connect(nats_server)
    with pytest.raises(LogUnavailable):
        await connection.wait_for_server_name("koseki-other", timeout_seconds=0.1)
    await connection.close()


async def test_an_ended_subscription_hears_no_more(connection: Connection) -> None:
    heard: list[bytes] = []

    def hear(message: Received) -> None:
        heard.append(message.data)

    subscription = await connection.subscribe("once.only", hear)
    await connection.publish("once.only", b"1")
    await until(lambda: heard == [b"1"])
    await subscription.unsubscribe()
    with pytest.raises(NotSent):
        await connection.request("once.only", b"2", timeout_seconds=5)
    assert heard == [b"1"]
