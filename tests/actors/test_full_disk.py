"""A host whose log has no room: commands fail at once, checks go on, and so does all with room."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import pytest

from actors.host import CustomerHost
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from domain.commands import DefinePurpose, RegisterSource
from domain.errors import Kind
from domain.replies import Done, Failed
from eventlog.guard import LogGuard
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer
from tests.actors.house import (
    CLOCK,
    PURPOSES,
    SOURCES,
    PlainLink,
    asked,
    check,
    consent,
    identify,
    track,
    user,
)
from tests.support.nats import connect
from tests.support.waiting import until

RESERVE_BYTES = 1_000_000
ANSWER_SECONDS_MAX = 3.0


class Usage(NamedTuple):
    """A disk of which the test says how full it is."""

    total: int
    used: int
    free: int


async def test_on_a_full_disk_commands_fail_at_once_and_go_on_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 2 * RESERVE_BYTES
    total = shutil.disk_usage(tmp_path).total
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(total, total - free, free))
    server = EmbeddedServer(tmp_path, disk_reserve_bytes=RESERVE_BYTES)
    await server.start()
    connection = await connect(server)
    log = JetStreamEventLog(connection, "full")
    await log.ensure_stream()
    guard = LogGuard(log, connection=lambda: connection.losses)
    log.guard_by(guard)
    rules = RulesKeeper(log, CLOCK)
    for purpose, basis in PURPOSES.items():
        await guard.check()
        await rules.execute(DefinePurpose(**asked({}), purpose=purpose, basis=basis))
    for source, purposes in SOURCES.items():
        await rules.execute(RegisterSource(**asked({}), source=source, purposes=purposes))
    host = CustomerHost(log, owns=lambda _: True, clock=CLOCK, guard=guard)
    await host.start()
    router = CommandRouter(log, PlainLink([host]), placement=Placement(1), clock=CLOCK)
    people = [user(str(number)) for number in range(20)]
    await router.execute_many([identify(person) for person in people])
    await router.execute_many([consent("given", person) for person in people])

    free = RESERVE_BYTES // 2
    await until(lambda: server.restarts == 1)
    await connection.wait_connected(timeout_seconds=5)
    before = (await log.shape()).last_revision
    begun = perf_counter()
    async with asyncio.timeout(30):
        replies = await router.execute_many([track(f"m{p.value}", p, seconds=30) for p in people])
    assert perf_counter() - begun < ANSWER_SECONDS_MAX
    refused = {(r.kind, r.reason) for r in replies if isinstance(r, Failed)}
    assert refused == {(Kind.UNAVAILABLE, "LOG_FULL")}
    assert len([reply for reply in replies if isinstance(reply, Failed)]) == len(people)
    for reply in await router.execute_many([check(person) for person in people]):
        assert isinstance(reply, Done)
        assert reply.verdict is not None
        assert reply.verdict.is_open
    assert sum([len(batch) async for batch in log.read()]) == before

    free = 2 * RESERVE_BYTES
    await until(lambda: server.restarts == 2)
    for person in people:
        assert isinstance(await router.execute(track(f"n{person.value}", person)), Done)
    await host.close()
    await connection.close()
    await server.stop()
