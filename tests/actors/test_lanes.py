"""The two lanes on a real server: who lives, what is moved, dropped unread, and asked again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
import pytest
import pytest_asyncio

from actors.host import CustomerHost
from actors.lanes import HEARTBEAT_SECONDS, HostTable, RequestLane, ServingHost
from actors.messages import HostUnavailable
from actors.router import CommandRouter
from actors.slots import SLOTS, Placement, slot_of
from domain.errors import Kind
from domain.ids import RecordId
from domain.replies import Done, Failed
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.lanes import Heartbeat, NatsLanes
from eventlog.memory import MemoryEventLog
from eventlog.server import EmbeddedServer
from tests.actors.house import (
    CLOCK,
    Unused,
    Workspace,
    check,
    identify,
    loyalty,
    track,
    traits,
    user,
)
from tests.support.waiting import until, until_async

HOSTS = 2
SOON, BRIEF = timedelta(seconds=5), timedelta(seconds=1)


@dataclass
class Net:
    """Hosts that serve the lane of commands on a server, and a router to them."""

    url: str
    house: Workspace
    table: HostTable = field(default_factory=lambda: HostTable(HOSTS))
    serving: list[ServingHost] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    async def lanes(self) -> NatsLanes:
        self.connections.append(await Connection.open(self.url))
        return NatsLanes(self.connections[-1], "shop")

    async def serve(self, number: int) -> ServingHost:
        """Start an incarnation of a host."""
        placement = Placement(HOSTS)
        host = CustomerHost(
            self.house.log, owns=lambda r: placement.host_of(r) == number, clock=CLOCK
        )
        serving = ServingHost(host, await self.lanes(), number=number, epoch=CLOCK.new_id())
        await serving.start()
        self.serving.append(serving)
        return serving

    async def router(self) -> CommandRouter:
        lanes = await self.lanes()
        await self.table.start(lanes)
        return CommandRouter(
            self.house.log,
            RequestLane("bulk", lanes, self.table, larger=Unused()),
            placement=Placement(HOSTS),
            clock=CLOCK,
            commands=RequestLane("command", lanes, self.table, larger=Unused()),
            table=self.table,
        )

    async def close(self) -> None:
        await self.table.close()
        for serving in self.serving:
            await serving.close()
        for connection in self.connections:
            await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("lanes"))
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def net(server: EmbeddedServer) -> AsyncIterator[Net]:
    house = Workspace(MemoryEventLog("shop"))
    await house.define_rules()
    opened = Net(server.url, house)
    try:
        yield opened
    finally:
        await opened.close()
        await house.rules.close()


async def test_commands_reach_the_hosts_and_a_merge_over_both_follows_the_move(
    server: EmbeddedServer,
) -> None:
    async with net(server) as opened:
        router = await opened.router()
        for number in range(HOSTS):
            await opened.serve(number)
        people = [user(str(n)) for n in range(12)]
        found = [await router.execute(track(f"m{p.value}", p)) for p in people]
        roots = [RecordId(str(r.customer_id)) for r in found if isinstance(r, Done)]
        assert {Placement(HOSTS).host_of(root) for root in roots} == {0, 1}
        for one in people[1:]:
            joined = await router.execute(identify(people[0], one, loyalty(f"l{one.value}")))
            assert isinstance(joined, Done)
        assert {n.status()["commands_executed"] > 0 for n in opened.serving} == {True}


async def test_while_commands_come_to_one_host_the_bulk_of_all_gives_way(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_way: set[CustomerHost] = set()

    def note(host: CustomerHost) -> None:
        gave_way.add(host)

    monkeypatch.setattr(CustomerHost, "give_way", note)
    async with net(server) as opened:
        router = await opened.router()
        for number in range(HOSTS):
            await opened.serve(number)
        await until(lambda: None not in {opened.table.epoch_of(n) for n in range(HOSTS)})
        signals = [track(f"m{number}", user(str(number))) for number in range(12)]
        assert all(isinstance(r, Done) for r in await router.execute_many(signals))
        await asyncio.sleep(2 * HEARTBEAT_SECONDS)
        assert not gave_way
        assert isinstance(await router.execute(traits(user("0"))), Done)
        assert len(gave_way) == 1
        await until(lambda: len(gave_way) == HOSTS)


async def test_a_host_that_falls_silent_is_moved_and_nothing_is_lost_or_repeated(
    server: EmbeddedServer,
) -> None:
    async with net(server) as opened:
        router = await opened.router()
        hosts = [await opened.serve(number) for number in range(HOSTS)]
        people = [user(str(n)) for n in range(12)]
        for person in people:
            assert isinstance(await router.execute(track(f"m{person.value}", person)), Done)
        # What is sent from here on waits for a host that is there, but takes nothing any more.
        stopped = opened.connections[1]
        await stopped.close()
        again = [track(f"n{person.value}", person, seconds=9) for person in people]
        replies = await asyncio.gather(*(router.execute(command) for command in again))
        assert all(isinstance(reply, Done) for reply in replies), replies
        assert opened.table.away == {0}
        await hosts[0].close()
        opened.serving.remove(hosts[0])
        await opened.serve(0)
        await until(lambda: not opened.table.away, timeout_seconds=5)
        repeated = [await router.execute(command) for command in again]
        assert [getattr(r, "revision", 0) for r in repeated] == [
            getattr(r, "revision", 1) for r in replies
        ]
        opened.house.hosts = []
        assert set((await opened.house.messages()).values()) == {1}


async def test_two_incarnations_of_a_host_the_younger_is_sent_to(server: EmbeddedServer) -> None:
    async with net(server) as opened:
        router = await opened.router()
        older = await opened.serve(0)
        younger = await opened.serve(0)
        await opened.serve(1)
        epoch = younger.status()["epoch"]
        await until(lambda: opened.table.epoch_of(0) == epoch, timeout_seconds=5)
        for n in range(12):
            assert isinstance(await router.execute(track(f"m{n}", user(str(n)))), Done)
        assert older.status()["commands_executed"] == 0
        assert younger.status()["commands_executed"] > 0


async def test_a_request_after_its_deadline_is_dropped_unread(server: EmbeddedServer) -> None:
    async with net(server) as opened:
        sending, serving = await opened.lanes(), await opened.lanes()
        taken: list[bytes] = []

        async def execute(batch: bytes) -> bytes:
            taken.append(batch)
            return b"done"

        epoch = CLOCK.new_id()
        await serving.serve(epoch, {"command": execute})
        now = CLOCK.now()

        async def is_served() -> bool:
            with suppress(LogUnavailable):
                return (
                    await sending.request(
                        "command", 7, epoch=epoch, batch=b"one", deadline=now + SOON
                    )
                    == b"done"
                )
            return False

        await until_async(is_served)
        with pytest.raises(LogUnavailable):
            await sending.request(
                "command", 7, epoch=epoch, batch=b"late", deadline=now - timedelta(seconds=1)
            )
        assert (
            await sending.request("command", 7, epoch=epoch, batch=b"two", deadline=now + SOON)
            == b"done"
        )
        assert taken == [b"one", b"two"]
        with pytest.raises(LogUnavailable):
            await sending.request(
                "command", 7, epoch=CLOCK.new_id(), batch=b"nobody", deadline=now + SOON
            )


async def test_calls_to_a_host_end_when_it_is_counted_out() -> None:
    seconds = 0.0
    table = HostTable(HOSTS, now=lambda: seconds)
    table.hear(0, Heartbeat("a", 1, 1))
    table.hear(1, Heartbeat("a", 1, 1))
    call = asyncio.create_task(table.call(0, asyncio.Event().wait()))
    await asyncio.sleep(0)
    seconds = 1.9
    table.hear(1, Heartbeat("a", 1, 2))
    table.count_out()
    assert not call.done()
    seconds = 2.1
    table.count_out()
    with pytest.raises(HostUnavailable):
        await call
    assert table.away == {0}
    table.hear(0, Heartbeat("b", 1, 1))
    table.hear(0, Heartbeat("a", 1, 2))
    assert (table.epoch_of(0), table.away) == ("b", frozenset())


@pytest.mark.parametrize(
    ("heard", "is_lost"),
    [
        (Heartbeat("b", 1, 6), False),
        (Heartbeat("b", 1, 7), True),
        (Heartbeat("b", 2, 6), True),
        (Heartbeat("c", 1, 1), True),
        # What comes late, from before a reconnect or of an older incarnation, says nothing.
        (Heartbeat("b", 1, 4), False),
        (Heartbeat("b", 0, 6), False),
        (Heartbeat("a", 1, 6), False),
    ],
)
async def test_calls_end_when_something_that_the_host_said_was_not_heard(
    heard: Heartbeat, *, is_lost: bool
) -> None:
    table = HostTable(HOSTS)
    table.hear(0, Heartbeat("b", 1, 5))
    answered = asyncio.Event()
    call = asyncio.create_task(table.call(0, answered.wait()))
    await asyncio.sleep(0)
    table.hear(0, heard)
    assert table.epoch_of(0) == max(heard.epoch, "b")
    answered.set()
    if is_lost:
        with pytest.raises(HostUnavailable):
            await call
    else:
        assert await call
    assert await table.call(0, answered.wait())


def test_the_slots_of_a_host_that_is_away_are_dealt_among_the_others() -> None:
    roots = [RecordId(str(n)) for n in range(2_000)]
    placement = Placement(4)
    assert {slot_of(root) for root in roots} == set(range(SLOTS))
    for root in roots:
        usual = placement.host_of(root)
        moved = placement.host_of(root, away={1})
        assert (moved == usual) == (usual != 1)
    moved_to = {placement.host_of(r, away={1}) for r in roots if placement.host_of(r) == 1}
    assert moved_to == {0, 2, 3}
    assert placement.host_of(roots[0], away=range(4)) == placement.host_of(roots[0])


async def test_a_host_keeps_what_it_is_sent_of_a_slot_that_is_not_its_own(
    server: EmbeddedServer,
) -> None:
    async with net(server) as opened:
        router = await opened.router()
        await opened.serve(1)
        await until(lambda: opened.table.away == {0}, timeout_seconds=5)
        done = [await router.execute(track(f"m{n}", user(str(n)))) for n in range(8)]
        assert all(isinstance(reply, Done) for reply in done), done
        more = [await router.execute(traits(user(str(n)))) for n in range(8)]
        assert all(isinstance(reply, Done) for reply in more), more


async def test_of_a_server_that_stands_still_a_check_is_unavailable_and_a_record_of_it_unknown(
    server: EmbeddedServer,
) -> None:
    async with net(server) as opened:
        router = await opened.router()
        for number in range(HOSTS):
            await opened.serve(number)
        await until(lambda: all(opened.table.epoch_of(number) for number in range(HOSTS)))
        assert isinstance(await router.execute(identify(user("ann"))), Done)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await until(lambda: psutil.Process(server.pid).status() == psutil.STATUS_STOPPED)
            asked, recorded = await asyncio.gather(
                router.execute(check(user("ann"), deadline=CLOCK.now() + BRIEF)),
                router.execute(check(user("ann"), record=True, deadline=CLOCK.now() + BRIEF)),
            )
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert isinstance(asked, Failed), asked
        assert (asked.kind, asked.reason) == (Kind.UNAVAILABLE, "LOG_UNAVAILABLE")
        assert isinstance(recorded, Failed), recorded
        assert recorded.reason == "UNKNOWN_OUTCOME"
