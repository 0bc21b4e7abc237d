"""The part `query`: a customer asked for through gRPC, beside a raw echo of as many bytes.

A gateway's real server stands over a real read side, in a process of its own as it does in an
installation; the raw limit is a bare gRPC server in that same process, whose one method gives back
the bytes that it was sent. The same callers ask both.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import uvloop

from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from benchmarks.happenings import Happenings
from benchmarks.hosts import CLOCK, Hosts
from benchmarks.measuring import Metric, Metrics, Rounds, alternate, rate_of
from benchmarks.projection import BATCH_EVENTS, DerivedKeys
from domain.ids import RecordId
from eventlog.keys.port import DataKey
from eventlog.server import free_port
from koseki.v1 import query_service_pb2, query_service_pb2_grpc
from projections.fold import SEALED, fold_batch
from projections.rows import SealedRows
from projections.store import Store
from services.server import GatewayParts, GatewayServer

CALLERS = 64
CALL_SECONDS_MAX = 30.0
START_SECONDS_MAX = 60.0
ECHO = "/bench.Echo/Echo"
PURPOSE = "service"


@dataclass(frozen=True, slots=True)
class Load:
    """How many customers there are, how many of them are asked for in turn, and calls of a round.

    Many short rounds: what else the machine does for a second then weighs on both.
    """

    rounds: Rounds = Rounds(70, seconds_max=90.0)  # noqa: RUF009  # frozen
    customers: int = 100_000
    asked: int = 5_000
    calls: int = 1_000


class HeldKeys(DerivedKeys):
    """Keys that are made once and held, as a gateway's ring holds them."""

    def __init__(self) -> None:
        self._held: dict[RecordId, DataKey] = {}

    def key_of(self, record_id: RecordId) -> DataKey:
        """Give a record's key."""
        held = self._held.get(record_id)
        if held is None:
            held = self._held[record_id] = super().key_of(record_id)
        return held


QUICK = Load(rounds=Rounds(24, seconds_max=25.0), asked=2_000, calls=500)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the part."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(load: Load) -> Metrics:
    """Measure with a load of one's own."""
    with TemporaryDirectory(prefix="koseki-bench-") as folder:
        asked = await asyncio.to_thread(make_read_side, Path(folder), load)
        async with _servers(Path(folder)) as (ours_at, raw_at):
            return {"get_customer_per_second": await _get_customers(ours_at, raw_at, asked, load)}


def make_read_side(folder: Path, load: Load) -> list[RecordId]:
    """Fold customers into a read side; give those who are asked for, who have done the most."""
    happenings = Happenings()
    happenings.rules()
    happenings.people(load.customers)
    asked = happenings.lives(load.asked)
    store = Store.open_writer(folder, SealedRows(SEALED, DerivedKeys()))
    for first in range(0, len(happenings.entries), BATCH_EVENTS):
        fold_batch(store, happenings.entries[first : first + BATCH_EVENTS])
    store.close()
    return asked


async def _get_customers(
    ours_at: str, raw_at: str, asked: Sequence[RecordId], load: Load
) -> Metric:
    async with (
        grpc.aio.insecure_channel(ours_at) as channel,
        grpc.aio.insecure_channel(raw_at) as to,
    ):
        stub = query_service_pb2_grpc.QueryServiceStub(channel)
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = to.unary_unary(ECHO)

        turns = cycle(asked)

        async def ask() -> None:
            request = query_service_pb2.GetCustomerRequest(customer_id=next(turns), purpose=PURPOSE)
            answer = await stub.GetCustomer(request, timeout=CALL_SECONDS_MAX)
            if not answer.customer.traits:
                raise RuntimeError("a customer came back empty")

        request = query_service_pb2.GetCustomerRequest(customer_id=asked[0], purpose=PURPOSE)
        answer = await stub.GetCustomer(request, timeout=CALL_SECONDS_MAX)
        body = answer.SerializeToString()

        async def call_raw() -> None:
            if await echo(body, timeout=CALL_SECONDS_MAX) != body:
                raise RuntimeError("an echo came back otherwise")

        async def ours() -> list[float]:
            return await rate_of(load.calls, _at_once(ask, load.calls))

        async def raw() -> list[float]:
            return await rate_of(load.calls, _at_once(call_raw, load.calls))

        await _at_once(ask, len(asked))  # warm
        found = await alternate(load.rounds, ours=ours, raw=raw)
    beside = {"bytes": float(len(body)), "callers": float(CALLERS)}
    return Metric(found["ours"], "customers/s", raw=found["raw"], ratio_at_least=0.7, beside=beside)


async def _at_once(call: Callable[[], Awaitable[None]], calls: int) -> None:
    """Let `CALLERS` callers make so many calls, each the next one when its last is answered."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await call()

    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(caller())


@asynccontextmanager
async def _servers(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run both servers in a process of their own; give their addresses."""
    spawning = multiprocessing.get_context("spawn")
    here, there = spawning.Pipe()
    process = spawning.Process(target=serve, args=(folder, there), daemon=True)
    process.start()
    try:
        if not await asyncio.to_thread(here.poll, START_SECONDS_MAX):
            raise RuntimeError("the servers did not start")
        yield here.recv()
    finally:
        process.terminate()
        process.join(CALL_SECONDS_MAX)


def serve(folder: Path, told: Connection) -> None:
    """Serve both until terminated, as a process of its own."""
    from benchmarks.__main__ import prepare_process

    prepare_process()
    uvloop.run(_serve(folder, told))


async def _serve(folder: Path, told: Connection) -> None:
    hosts = Hosts()  # no command comes to them
    log, port = hosts.log, free_port()
    gateway = GatewayServer(
        GatewayParts(
            workspace=log.workspace,
            log=log,
            router=CommandRouter(log, hosts, placement=Placement(1), clock=CLOCK),
            rules=RulesKeeper(log, CLOCK),
            store=Store.open_reader(folder, SealedRows(SEALED, HeldKeys())),
            normaliser=hosts.normaliser,
            clock=CLOCK,
        ),
        host="127.0.0.1",
        port=port,
    )
    await gateway.start()
    raw = grpc.aio.server()
    raw.add_generic_rpc_handlers((_Echo(),))
    raw_port = raw.add_insecure_port("127.0.0.1:0")
    await raw.start()
    told.send((f"127.0.0.1:{port}", f"127.0.0.1:{raw_port}"))
    await gateway.wait()


class _Echo(grpc.GenericRpcHandler):
    """Answers with the bytes that came."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if handler_call_details.method != ECHO:
            return None
        return grpc.unary_unary_rpc_method_handler(_echo)


async def _echo(body: bytes, _context: object) -> bytes:
    return body
