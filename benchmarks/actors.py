"""The part `actors`: how long a command takes, alone and beside bulk; what an awake customer takes.

The raw limit of a command is a gRPC echo (the server's own health check) and one durable publish,
added. A Ray actor for every customer is measured beside the bytes of a customer in a host.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import nats
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from actors.awake import UNPACKED_CUSTOMERS_MAX, AwakeCustomers, AwakeRecord
from actors.host import HostLimits
from app.ray_environment import RAY_ENVIRONMENT
from benchmarks import load
from benchmarks.identity import Publisher
from benchmarks.installation import CALL_SECONDS_MAX, Installation, installation
from benchmarks.measuring import Metric, Metrics, Operation, Rounds, alternate, milliseconds_of
from benchmarks.raw import RawStream
from domain.command_origins import origins_of
from domain.consent import ConsentAct, ConsentState
from domain.ids import CommandId, EventId, RecordId
from domain.record import Record, RememberedCommand, TraitValue
from domain.signal_events import TraitsSet
from domain.signals import signal_key
from eventlog.codec import JsonTranscoder
from eventlog.port import Head

UNDER_LOAD_SIGNALS_PER_SECOND = 5_000
UNDER_LOAD_BATCH = 100
BATCHES_AT_ONCE_MAX = 32
PAUSE_SECONDS = 0.01
RAY_ACTORS = 3


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    rounds: Rounds = Rounds(9, seconds_max=40.0)  # noqa: RUF009  # frozen
    commands: int = 200
    load_seconds: float = 20.0
    customers: int = 5_000


QUICK = Load(rounds=Rounds(5, seconds_max=10.0), commands=60, load_seconds=8.0, customers=2_000)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the part."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(size: Load) -> Metrics:
    """Measure with a load of one's own."""
    memory = _awake_bytes(size.customers)
    ray_bytes, ray_seconds = await asyncio.to_thread(_one_ray_actor)
    async with installation() as opened:
        client = await nats.connect(opened.nats_url)
        raw = RawStream(
            client, "raw", subjects=64, body=JsonTranscoder().encode(load.purchase().model_dump())
        )
        await raw.create()
        publisher = Publisher(people=1_000)
        await publisher.make_known(opened)
        try:
            with opened.without("projector"):
                return {
                    "command_latency_ms": await _latency(opened, publisher, raw, size),
                    "command_under_load_ms": await _under_load(opened, publisher, size),
                    "awake_customer_bytes": Metric(
                        memory,
                        "bytes",
                        beside={"ray_actor_bytes": ray_bytes, "ray_actor_seconds": ray_seconds},
                    ),
                }
        finally:
            await client.close()


async def _latency(
    opened: Installation, publisher: Publisher, raw: RawStream, size: Load
) -> Metric:
    person = publisher.person(1)
    echo = health_pb2_grpc.HealthStub(opened.channel)

    async def command() -> None:
        await opened.set_trait(person, perf_counter())

    async def echo_and_publish() -> None:
        await echo.Check(  # type: ignore[attr-defined]  # its stubs leave it out
            health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS_MAX
        )
        await raw.plain_publishes(1, outstanding=1)

    found = await alternate(
        size.rounds, ours=_each(command, size.commands), raw=_each(echo_and_publish, size.commands)
    )
    return Metric(found["ours"], "ms", found["raw"], ratio_at_most=2.0)


def _each(work: Callable[[], Awaitable[None]], times: int) -> Operation:
    """Do something so many times, one after another; the samples are milliseconds."""

    async def one_round() -> list[float]:
        return [await milliseconds_of(work()) for _ in range(times)]

    return one_round


async def _under_load(opened: Installation, publisher: Publisher, size: Load) -> Metric:
    """Command one customer again and again while signals, a few of its own, come in steadily."""
    samples: list[float] = []
    loading = asyncio.create_task(_keep_loading(opened, publisher, size.load_seconds))
    person = publisher.person(7)
    while not loading.done():
        samples.append(await milliseconds_of(opened.set_trait(person, perf_counter())))
        await asyncio.sleep(PAUSE_SECONDS)
    return Metric(median(samples), "ms", beside={"signals_per_second": loading.result()})


async def _keep_loading(opened: Installation, publisher: Publisher, seconds: float) -> float:
    """Send batches at their times for so long; give the rate that was recorded."""
    batches = int(seconds * UNDER_LOAD_SIGNALS_PER_SECOND / UNDER_LOAD_BATCH)
    requests = [publisher.request(UNDER_LOAD_BATCH) for _ in range(batches)]
    gap = UNDER_LOAD_BATCH / UNDER_LOAD_SIGNALS_PER_SECOND
    begun = perf_counter()
    sending: set[asyncio.Task[None]] = set()
    for number, request in enumerate(requests):
        await asyncio.sleep(max(0.0, begun + number * gap - perf_counter()))
        if len(sending) >= BATCHES_AT_ONCE_MAX:  # it cannot keep up: the rate will say so
            done, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        if perf_counter() - begun > seconds * 2:
            batches = number
            break
        sending.add(asyncio.create_task(opened.ingest(request)))
    await asyncio.gather(*sending)
    return batches * UNDER_LOAD_BATCH / (perf_counter() - begun)


def _awake_bytes(customers: int) -> float:
    """Keep customers of the usual size awake, as few of them unpacked as in a full host."""
    unpacked = customers * UNPACKED_CUSTOMERS_MAX // HostLimits().customers_max
    kept = AwakeCustomers(customers_max=customers, idle_seconds=600, unpacked_max=unpacked)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(customers):
            kept.keep([AwakeRecord(_usual_record(), Head(10**9 + number, 500, os.urandom(32)))])
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(kept)


def _usual_record() -> Record:
    """Make a record of 10 identifiers, 20 traits, 5 acts of consent and 50 signals."""
    record_id = RecordId(load.new_id())
    events = [EventId(load.new_id()) for _ in range(20)]
    items = [load.birth().identifiers[0] for _ in range(10)]
    origins = origins_of(TraitsSet(source="shop", traits={}))
    return Record(
        id=record_id,
        root=record_id,
        component=(record_id,),
        identifiers={item.key: item for item in items},
        traits={
            f"trait_{number}": {"shop": TraitValue(f"value {event}", load.NOON, event)}
            for number, event in enumerate(events)
        },
        acts=tuple(_given(event) for event in events[:5]),
        messages={signal_key("shop", load.new_id()): "recorded" for _ in range(50)},
        commands={CommandId(event): RememberedCommand(10**9, origins) for event in events},
    )


def _given(event: EventId) -> ConsentAct:
    return ConsentAct(
        act_id=event,
        purpose="marketing",
        state=ConsentState.GIVEN,
        effective_at=load.NOON,
        revision=10**9,
        event_id=event,
        notice_version="v3",
    )


def _one_ray_actor() -> tuple[float, float]:
    """Start a few empty Ray actors: the bytes that one has to itself, the seconds that it takes."""
    os.environ.update(RAY_ENVIRONMENT)
    import ray  # reads its environment when it is imported

    from actors.remote import start_ray, stop_ray

    class Empty:
        def process_id(self) -> int:
            return os.getpid()

    with tempfile.TemporaryDirectory(prefix="koseki-ray-bench-") as folder:
        start_ray(folder)
        try:
            remote = ray.remote(Empty)
            begun = perf_counter()
            actors = [remote.options(num_cpus=0).remote() for _ in range(RAY_ACTORS)]
            found = ray.get([actor.process_id.remote() for actor in actors])  # type: ignore[attr-defined]  # Ray's
            seconds = (perf_counter() - begun) / RAY_ACTORS
            sizes = [psutil.Process(pid).memory_full_info().uss for pid in found]
        finally:
            stop_ray()
    return median(sizes), seconds
