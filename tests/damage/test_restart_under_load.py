"""A server that comes back without what it held, while everybody wants to write."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from domain.replies import Done, Failed
from eventlog import guard
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer
from tests.actors.house import check, track, user
from tests.damage.scene import PEOPLE, left_of, office, project
from tests.damage.stored_bytes import blocks, messages_folder, remove_the_index
from tests.support.nats import connect
from tests.support.waiting import until

WORKSPACE = "restarted"
LEFT_BYTES = 20_000
"""About two dozen events."""


async def test_what_waits_for_the_server_is_not_stored_over_what_it_lost(
    own_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the new connection makes the guard look again.
    monkeypatch.setattr(guard, "CHECK_EVERY_SECONDS", 600.0)
    connection = await connect(own_server)
    await JetStreamEventLog(connection, WORKSPACE).ensure_stream()
    async with office(connection, tmp_path, WORKSPACE) as opened:
        await opened.write()
        written = await project(opened.log, opened.settings.read_side_folder)
        stopped = asyncio.Event()

        async def write_on(number: int) -> None:
            while not stopped.is_set():
                command = track(f"m{random.random()}", user(str(number % PEOPLE)), seconds=20)
                reply = await opened.router.execute(command)
                if isinstance(reply, Failed) and reply.reason == "LOG_DAMAGED":
                    return
                await asyncio.sleep(0)

        waiting = [asyncio.create_task(write_on(number)) for number in range(40)]
        await asyncio.sleep(0.3)
        await own_server.stop()
        folder = messages_folder(tmp_path / "nats", WORKSPACE)
        remove_the_index(folder, random.Random(0))
        os.truncate(blocks(folder)[-1], LEFT_BYTES)
        await own_server.start()
        await until(lambda: not opened.guard.is_sound)
        async with asyncio.timeout(30):
            await asyncio.gather(*waiting)
        stopped.set()
        shape = await opened.log.shape()
        left = await left_of(opened.log, written)
        assert shape.last_revision < written.last_revision
        assert all(left[r] == written.entries[r - 1].digest for r in left)
        assert len(left) == shape.last_revision
        answer = await opened.done(check(user("0")))
        assert isinstance(answer, Done)
        assert answer.verdict is not None
        assert answer.verdict.reason == "LOG_DAMAGED"
    await connection.close()
