"""Many customers awake, and one who is hot: neither makes the others slow."""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter

from actors.awake import AwakeCustomers, AwakeRecord
from actors.host import HostLimits
from actors.messages import Routed
from domain.ids import RecordId
from domain.record import Record
from domain.replies import Done
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import Head
from tests.actors.house import CLOCK, Workspace, track, traits, user, workspace
from tests.support.nats import running_log

HOT_SIGNALS_PER_SECOND = 2_000
HOT_BATCH = 40
OTHERS = 20
ROUNDS = 4
PASSIVATING_SECONDS_MAX = 0.05


def sleepers(customers: int) -> AwakeCustomers:
    """Keep so many customers awake that have next to nothing."""
    kept = AwakeCustomers(customers_max=customers, idle_seconds=600, unpacked_max=100)
    for number in range(customers):
        record_id = RecordId(f"{number:036d}")
        record = Record(id=record_id, root=record_id, component=(record_id,))
        kept.keep([AwakeRecord(record, Head(number + 1, 1, bytes(32)))])
    return kept


def test_a_host_holds_100_000_customers_and_looking_for_sleepers_costs_nothing() -> None:
    customers = HostLimits().customers_max
    assert customers >= 100_000
    kept = sleepers(customers)
    begun = perf_counter()
    for _ in range(100):
        assert kept.passivate(busy=lambda _: False) == 0
    assert perf_counter() - begun < PASSIVATING_SECONDS_MAX
    assert len(kept) == customers


def test_over_the_cap_of_bytes_the_least_recently_used_sleep() -> None:
    size = sleepers(101).packed_bytes
    kept = AwakeCustomers(
        customers_max=1_000, idle_seconds=600, unpacked_max=1, packed_bytes_max=size * 10
    )
    for number in range(101):
        record_id = RecordId(f"{number:036d}")
        record = Record(id=record_id, root=record_id, component=(record_id,))
        kept.keep([AwakeRecord(record, Head(number + 1, 1, bytes(32)))])
    assert kept.passivate(busy=lambda root: root == RecordId(f"{0:036d}")) == 89
    assert kept.packed_bytes <= size * 10
    assert kept.root_of(RecordId(f"{0:036d}"))
    assert kept.root_of(RecordId(f"{1:036d}")) is None
    assert kept.root_of(RecordId(f"{100:036d}"))


async def latency(house: Workspace) -> float:
    """Command others one after another; the median, in seconds."""
    samples = []
    for number in range(OTHERS):
        begun = perf_counter()
        assert isinstance(await house.router.execute(traits(user(f"other-{number}"))), Done)
        samples.append(perf_counter() - begun)
    return median(samples)


async def keep_hot(house: Workspace, root: RecordId) -> None:
    """Send one customer signals at a steady rate, in bulk, until cancelled."""
    number = 0
    async with asyncio.TaskGroup() as group:
        while True:
            commands = [track(f"hot-{number + n}", user("hot")) for n in range(HOT_BATCH)]
            owners = {item.key: root for item in commands[0].identifiers}
            batch = [Routed(command=command, owners=owners) for command in commands]
            group.create_task(house.hosts[0].execute_bulk(batch))
            number += HOT_BATCH
            await asyncio.sleep(HOT_BATCH / HOT_SIGNALS_PER_SECOND)


async def test_a_hot_customer_does_not_slow_the_others(running: JetStreamEventLog) -> None:
    async with workspace(log=running, hosts_wanted=1) as house:
        root = RecordId(str((await house.done(track("first", user("hot")))).customer_id))
        await house.all_done([track(f"o{n}", user(f"other-{n}")) for n in range(OTHERS)])
        quiet, hot = [], []
        for _ in range(ROUNDS):
            quiet.append(await latency(house))
            heating = asyncio.create_task(keep_hot(house, root))
            await asyncio.sleep(0)
            hot.append(await latency(house))
            heating.cancel()
            await asyncio.gather(heating, return_exceptions=True)
        assert min(hot) <= 2 * max(quiet), (quiet, hot)
        assert CLOCK.now()
