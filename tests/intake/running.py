"""Intake as the tests run it: a real server, a queue, dead letters, a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import orjson

from actors.intake.cloud_events import decode_message
from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.jetstream import JetStreamIntake
from actors.intake.worker import IngestWorker, WorkerLimits
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.keys.memory import MemoryKeyStore
from eventlog.server import EmbeddedServer
from tests.intake.fakes import CountingClock, RecordingRouter
from tests.intake.messages import NORMALISER, PREFIX


class Intake:
    """A server, a queue and dead letters of one test."""

    def __init__(self, server: EmbeddedServer, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.queue = JetStreamIntake(connection, workspace="demo", ack_wait_seconds=2.0)
        self.dead_letters = JetStreamDeadLetters(
            connection, workspace="demo", keys=MemoryKeyStore()
        )

    async def publish(
        self, body: object, *, source: str = "shop", headers: dict[str, str] | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        answer = await self.connection.request(
            f"{PREFIX}.{source}", data, headers=headers, timeout_seconds=5
        )
        assert orjson.loads(answer.data)["stream"] == "koseki-demo-intake"

    @asynccontextmanager
    async def working(self, router: RecordingRouter) -> AsyncIterator[IngestWorker]:
        worker = IngestWorker(
            self.queue,
            self.dead_letters,
            router=router,
            decode=partial(decode_message, normaliser=NORMALISER),
            clock=CountingClock(),
            subject_prefix=PREFIX,
            limits=WorkerLimits(pull_wait_seconds=0.5, nak_delay_seconds=0.1),
        )
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(task, 20)

    async def is_drained(self) -> bool:
        try:
            return (await self.queue.stats()).is_drained
        except LogUnavailable:
            return False


@asynccontextmanager
async def intake_on(server: EmbeddedServer) -> AsyncIterator[Intake]:
    """Start a server, and open intake on it."""
    await server.start()
    connection = await Connection.open(server.url)
    try:
        await connection.wait_for_server_name(server.name, timeout_seconds=5)
        found = Intake(server, connection)
        await found.queue.open()
        await found.dead_letters.open()
        yield found
        await found.queue.close()
    finally:
        await connection.close()
        await server.stop()
