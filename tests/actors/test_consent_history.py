"""Checks and withdrawals are linearizable per customer, whatever becomes of the hosts (R13).

Three hosts in processes of their own stand over one log on a real server; each believes to own
everybody, and callers ask any of them. Meanwhile hosts are killed and started again, and paused
and resumed: a resumed host answers, and writes, from the past if nothing stops it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.clock import SystemClock
from actors.messages import HostUnavailable
from actors.router import CommandRouter
from actors.slots import Placement
from domain.commands import PersonCommand
from domain.identity import Identifier
from domain.replies import Done
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer
from tests.actors.host_process import frame, read_frame
from tests.actors.house import Workspace, check, consent, user
from tests.actors.linearizability import Operation, is_linearizable, stale_answers
from tests.support.nats import connect, new_workspace

SEEDS = [int(seed) for seed in os.environ.get("KOSEKI_SEEDS", "7").split()]
"""Other troubles than those of every run: `KOSEKI_SEEDS="1 2 3"` in the environment names them."""

HOSTS = 3
CUSTOMERS = 4
CHECKERS_PER_CUSTOMER = 2
TROUBLE_SECONDS = 10.0
KILL_EVERY = 6
START_SECONDS_MAX = 30.0
CALL_SECONDS = 1.5
"""A caller asks another host after this: the first one may still carry the command out."""


class HostChild:
    """One host process, and its successors."""

    def __init__(self, url: str, workspace: str) -> None:
        self._arguments = (url, workspace)
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def start(self) -> None:
        """Start a process, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.actors.host_process",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS_MAX)
        self.port = int(line)

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self) -> None:
        """Kill it, even if it is paused."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@dataclass
class AnyHost:
    """Carries every call to any of the hosts, whichever was meant."""

    hosts: list[HostChild]
    die: random.Random
    carried: int = 0
    lost: int = 0

    async def execute(self, host: int, batch: bytes, **_call: object) -> bytes:
        """Call a host, for a short time."""
        del host
        port = self.die.choice(self.hosts).port
        try:
            async with asyncio.timeout(CALL_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(frame(batch))
                    self.carried += 1
                    return await read_frame(reader)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.lost += 1
            raise HostUnavailable from error


@dataclass
class Callers:
    """Writers and checkers of a few customers, and what each was told when."""

    log: JetStreamEventLog
    link: AnyHost
    told: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    is_over: bool = False
    _routers: list[CommandRouter] = field(default_factory=list)

    def router(self) -> CommandRouter:
        """Make a way to the hosts of a caller's own."""
        return CommandRouter(self.log, self.link, placement=Placement(HOSTS), clock=SystemClock())

    async def write(self, who: Identifier) -> None:
        """Agree and withdraw in turns, each after the one before was acknowledged."""
        router, gives = self.router(), True
        while not self.is_over:
            called = time.monotonic()
            command = consent("given" if gives else "withdrawn", who, seconds=25.0)
            await until_done(router, command)
            self.note(who, Operation(True, gives, called, time.monotonic()))
            gives = not gives

    async def ask(self, who: Identifier) -> None:
        """Check over and over."""
        router = self.router()
        while not self.is_over:
            called = time.monotonic()
            reply = await router.execute(check(who, seconds=25.0))
            if isinstance(reply, Done):
                assert reply.verdict is not None
                seen = reply.verdict.is_open
                self.note(who, Operation(False, seen, called, time.monotonic()))

    def note(self, who: Identifier, one: Operation) -> None:
        """Remember what a caller was told."""
        self.told[who.value].append(one)


async def until_done(router: CommandRouter, command: PersonCommand) -> None:
    """Ask under the same id until it is certain that it was carried out."""
    async with asyncio.timeout(30):
        while not isinstance(await router.execute(command), Done):
            fresh = datetime.now(UTC) + (command.deadline - command.issued_at)
            command = command.model_copy(update={"deadline": fresh})


@asynccontextmanager
async def hosts_over(server: EmbeddedServer, workspace: str) -> AsyncIterator[list[HostChild]]:
    """Start the hosts, and end them whatever happens."""
    hosts = [HostChild(server.url, workspace) for _ in range(HOSTS)]
    try:
        await asyncio.gather(*(host.start() for host in hosts))
        yield hosts
    finally:
        await asyncio.gather(*(host.end() for host in hosts))


async def make_trouble(hosts: list[HostChild], die: random.Random) -> tuple[int, int]:
    """Kill or pause one host after another; give how often each."""
    kills = pauses = 0
    until = time.monotonic() + TROUBLE_SECONDS
    while time.monotonic() < until or not (kills and pauses > KILL_EVERY):
        host = die.choice(hosts)
        if (kills + pauses) % KILL_EVERY == 0:
            kills += 1
            await host.end()
            await host.start()
        else:
            pauses += 1
            host.send(signal.SIGSTOP)
            await asyncio.sleep(die.choice([0.05, 0.3, CALL_SECONDS + 0.5]))
            host.send(signal.SIGCONT)
            await asyncio.sleep(die.random() * 0.2)
    return kills, pauses


@pytest.mark.timeout(90)
@pytest.mark.parametrize("seed", SEEDS)
async def test_checks_and_withdrawals_are_linearizable_while_hosts_die_pause_and_are_doubled(
    own_server: EmbeddedServer, seed: int
) -> None:
    die = random.Random(seed)
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    await Workspace(log).define_rules()
    people = [user(str(number)) for number in range(CUSTOMERS)]
    async with hosts_over(own_server, log.workspace) as hosts:
        link = AnyHost(hosts, die)
        callers = Callers(log, link)
        asking = [callers.ask(who) for who in people for _ in range(CHECKERS_PER_CUSTOMER)]
        writing = [callers.write(who) for who in people]
        tasks = [asyncio.create_task(call) for call in (*asking, *writing)]
        try:
            kills, pauses = await make_trouble(hosts, die)
            callers.is_over = True
            await asyncio.wait_for(asyncio.gather(*tasks), 30)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()
    assert kills
    assert pauses
    assert link.lost
    for who in people:
        told = callers.told[who.value]
        assert {(one.is_write, one.value) for one in told} == {
            (is_write, value) for is_write in (True, False) for value in (True, False)
        }
        assert len(told) > 50
        assert stale_answers(told, stale=True) == []
        assert is_linearizable(told, initial=False)
