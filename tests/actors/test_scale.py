"""Many customers awake, and one who is hot: neither makes the others slow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count, cycle
from statistics import median
from time import perf_counter

from actors.awake import AwakeCustomers, AwakeRecord
from actors.host import HostLimits
from actors.messages import Routed
from domain.identity import Identifier
from domain.ids import RecordId
from domain.record import Record
from domain.replies import Done
from eventlog.connection import Connection
from eventlog.port import Head
from tests.actors.house import Workspace, track, traits, user, workspace
from tests.support.nats import connection, nats_server, new_workspace
from tests.support.sealed import Source, sealed_log

__all__ = ["connection", "nats_server"]

SIGNALS_PER_SECOND = 2_000
SIGNALS_PER_COMMAND = 40
MANY = 50
OTHERS = 20
ROUNDS = 3
PASSIVATING_SECONDS_MAX = 0.05

_starts = count(step=1_000_000)


def sleepers(customers: int) -> AwakeCustomers:
    """Keep so many customers awake that have next to nothing."""
    kept = AwakeCustomers(customers_max=customers, idle_seconds=600, unpacked_max=1)
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
    size = sleepers(101).packed_bytes // 100
    kept = AwakeCustomers(
        customers_max=1_000, idle_seconds=600, unpacked_max=1, packed_bytes_max=size * 10
    )
    for number in range(101):
        record_id = RecordId(f"{number:036d}")
        record = Record(id=record_id, root=record_id, component=(record_id,))
        kept.keep([AwakeRecord(record, Head(number + 1, 1, bytes(32)))])
    assert kept.passivate(busy=lambda root: root == RecordId(f"{0:036d}")) == 90
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


async def keep_loaded(house: Workspace, people: Mapping[Identifier, RecordId]) -> None:
    """Send signals of these people in turn, at a steady rate, as gateways group them."""
    number = next(_starts)
    async with asyncio.TaskGroup() as group:
        for person, record_id in cycle(people.items()):
            names = " ".join(f"s-{number + n}" for n in range(SIGNALS_PER_COMMAND))
            routed = Routed(command=track(names, person), owners={person.key: record_id})
            group.create_task(house.hosts[0].execute_bulk([routed]))
            number += SIGNALS_PER_COMMAND
            await asyncio.sleep(SIGNALS_PER_COMMAND / SIGNALS_PER_SECOND)


async def latency_beside(house: Workspace, people: Mapping[Identifier, RecordId]) -> float:
    """Command others while signals of these people come in."""
    loading = asyncio.create_task(keep_loaded(house, people))
    await asyncio.sleep(0)
    found = await latency(house)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    return found


async def test_signals_of_one_slow_the_others_no_more_than_signals_of_many(
    connection: Connection,
) -> None:
    log, _ = await sealed_log(connection, new_workspace(), Source())
    async with workspace(log=log, hosts_wanted=1) as house:
        await house.all_done([track(f"o{n}", user(f"other-{n}")) for n in range(OTHERS)])
        many = [user(f"busy-{n}") for n in range(MANY)]
        replies = await house.all_done([track(f"b-{one.value}", one) for one in many])
        people = {one: RecordId(str(r.customer_id)) for one, r in zip(many, replies, strict=True)}
        hot = {many[0]: people[many[0]]}
        spread, single = [], []
        for _ in range(ROUNDS):
            spread.append(await latency_beside(house, people))
            single.append(await latency_beside(house, hot))
        assert median(single) <= 2 * median(spread), (spread, single)
