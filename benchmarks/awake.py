"""Customers awake in one host, and others asleep: `python -m benchmarks.awake --customers 100000`.

Not a part of `make bench`: a hundred thousand awake beside a million asleep take a while. Writes a
log (`awake_log.py`) on a server of its own, wakes everybody who is to be awake in one host by a
command that is stored, and asks while they are: what the process holds, how long somebody awake
waits, and somebody asleep who takes another's place.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection as PipeEnd
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from actors.clock import SystemClock
from actors.host import CustomerHost, HostLimits
from actors.messages import Routed
from benchmarks.awake_log import Population, append_population
from benchmarks.scale_log import record_of
from benchmarks.scale_state import own_memory_bytes
from domain.commands import RecordSignals
from domain.ids import CommandId, RecordId
from domain.replies import Done
from domain.signals import Signal
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.workspace_key import WorkspaceKeys, new_workspace_key
from eventlog.server import EmbeddedServer
from eventlog.snapshots.jetstream import JetStreamSnapshotStore

WORKSPACE = "awake"
AWAKE, ASLEEP = 100_000, 1_000_000
COMMANDS_AT_ONCE = 1_000
ASKED_ONE_BY_ONE = 200
DEADLINE_SECONDS = 60.0
START_SECONDS_MAX = 600.0
CLOCK = SystemClock()


class NotExecuted(Exception):
    """A command that the measurement stands on was not carried out."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run has its log, and of whom."""

    url: str
    key: WorkspaceKeys
    population: Population


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what was found as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.awake", description=__doc__)
    parser.add_argument("--customers", type=int, default=AWAKE, help="awake at once")
    parser.add_argument("--asleep", type=int, default=ASLEEP, help="others in the log")
    parser.add_argument("--folder", type=Path, default=None, help="where a folder for it is made")
    options = parser.parse_args(arguments)
    population = Population(options.customers, options.asleep)
    with tempfile.TemporaryDirectory(prefix="koseki-awake-", dir=options.folder) as folder:
        found = asyncio.run(_measure(Path(folder), population))
    print(json.dumps(found, indent=2))
    return 0


async def _measure(folder: Path, population: Population) -> dict[str, Any]:
    server = EmbeddedServer(folder / "nats", start_timeout_seconds=START_SECONDS_MAX)
    await server.start()
    try:
        place = Place(server.url, new_workspace_key(), population)
        begun = perf_counter()
        events = await _in_process(write, place)
        written = perf_counter() - begun
        found = await _in_process(hold_awake, place)
        return {
            "asleep": population.asleep,
            "events": events,
            "events_written_per_second": round(events / written),
            **found,
            "server_memory_bytes": own_memory_bytes(server.pid),
        }
    finally:
        await server.stop()


Work = Callable[[Place], Awaitable[Any]]  # Any: what can be sent between processes


async def _in_process(work: Work, place: Place) -> Any:  # noqa: ANN401  # what the work gives
    """Do something in a process of its own, so that its memory is that of the work alone."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(work, place, theirs))
    process.start()
    theirs.close()
    try:
        return await asyncio.to_thread(ours.recv)
    except EOFError:
        raise RuntimeError("the process ended without a result") from None
    finally:
        await asyncio.to_thread(process.join)


def _send_result(work: Work, place: Place, result: PipeEnd) -> None:
    async def working() -> object:
        return await work(place)

    result.send(asyncio.run(working()))


async def write(place: Place) -> int:
    """Write the log of everybody; give the number of its events."""
    async with _opened(place) as (log, _keys, _connection):
        await log.ensure_stream()
        return await append_population(log, place.population)


async def hold_awake(place: Place) -> dict[str, Any]:
    """Wake a host's fill of customers, and measure what they cost and how they answer."""
    async with _opened(place) as (log, keys, connection):
        snapshots = JetStreamSnapshotStore(connection, WORKSPACE, keys=keys)
        await snapshots.open()
        limits = HostLimits(customers_max=place.population.awake, idle_seconds=3_600.0)
        host = CustomerHost(
            log, owns=lambda _root: True, clock=CLOCK, limits=limits, snapshots=snapshots
        )
        await host.start()
        try:
            return await _held(host, place.population)
        finally:
            await host.close()


async def _held(host: CustomerHost, population: Population) -> dict[str, Any]:
    before = own_memory_bytes()
    begun = perf_counter()
    for start in range(0, population.awake, COMMANDS_AT_ONCE):
        some = range(start, min(start + COMMANDS_AT_ONCE, population.awake))
        await _carry_out(host, some)
    woken = population.awake / (perf_counter() - begun)
    memory = own_memory_bytes() - before
    die = random.Random(population.awake)
    awake_now = host.status()["awake_customers"]
    warm = await _one_by_one(host, die.choices(range(population.awake), k=ASKED_ONE_BY_ONE))
    cold = [population.awake + n for n in range(min(ASKED_ONE_BY_ONE, population.asleep))]
    return {
        "awake": awake_now,
        "woken_per_second": round(woken),
        "memory_bytes": memory,
        "memory_bytes_per_customer": round(memory / population.awake),
        "command_to_somebody_awake_ms": warm,
        "command_to_somebody_asleep_ms": await _one_by_one(host, cold),
        "awake_after": host.status()["awake_customers"],
        "whole_garbage_collection_ms": round(_collection_milliseconds(), 1),
    }


async def _one_by_one(host: CustomerHost, numbers: Sequence[int]) -> dict[str, float]:
    """Command one customer after another; give how long that took."""
    samples: list[float] = []
    for number in numbers:
        begun = perf_counter()
        await _carry_out(host, [number])
        samples.append((perf_counter() - begun) * 1_000)
    late = quantiles(samples, n=100)[98] if len(samples) > 1 else max(samples, default=0.0)
    return {"p50": round(median(samples or [0.0]), 2), "p99": round(late, 2)}


async def _carry_out(host: CustomerHost, numbers: Sequence[int]) -> None:
    replies = await host.execute([_purchase(number) for number in numbers])
    for reply in replies:
        if not isinstance(reply, Done):
            raise NotExecuted(f"a command was not carried out: {reply}")


def _purchase(number: int) -> Routed:
    now = CLOCK.now()
    signal = Signal(message_id=CLOCK.new_id(), name="Order Completed", happened_at=now)
    command = RecordSignals(
        command_id=CommandId(CLOCK.new_id()),
        auth_id="benchmark",
        issued_at=now,
        deadline=now + timedelta(seconds=DEADLINE_SECONDS),
        record_id=RecordId(record_of(number).key),
        new_record_id=CLOCK.new_id(),
        source="shop",
        signals=(signal,),
    )
    return Routed(command, {})


def _collection_milliseconds() -> float:
    """Time a collection of everything: nothing else happens in a host meanwhile."""
    begun = perf_counter()
    gc.collect()
    return (perf_counter() - begun) * 1_000


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[tuple[JetStreamEventLog, KeyRing, Connection]]:
    connection = await Connection.open(place.url, name="awake")
    store = JetStreamKeyStore(connection, WORKSPACE, source=lambda: place.key)
    await store.open()
    keys = KeyRing(store)
    try:
        yield JetStreamEventLog(connection, WORKSPACE, keys=keys), keys, connection
    finally:
        await keys.close()
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())
