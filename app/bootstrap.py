"""Builds each process's parts out of the settings: the one place where concrete things meet.

Ray's processes call these by import path (`app.runtime`), the command line and tests directly.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from actors.clock import SystemClock
from actors.host import CustomerHost
from actors.intake.cloud_events import decode_message
from actors.intake.identifiers import IdentifierNormaliser
from actors.intake.jetstream import JetStreamIntake
from actors.intake.streams import INTAKE_STREAMS
from actors.intake.worker import IngestWorker, WorkerLimits
from actors.lanes import HostTable, RequestLane, ServingHost, WatchedLink
from actors.log_clock import LogClock
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from app.attestations import attest_for_ever
from app.closed import closed_records
from app.dead_letters import open_dead_letters, open_letter_keys
from app.gateway import GatewayComponent
from app.integrity import ReadSideHeads, open_guard
from app.logs import configure_logs
from app.nats_cluster import Role
from app.processes import cores
from app.settings import Settings, ensure_pepper
from eventlog.asking_again import until_answered
from eventlog.connection import Connection
from eventlog.errors import LogDamaged
from eventlog.guard import LogGuard
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.key_stream import refuse_encryption
from eventlog.lanes import NatsLanes
from eventlog.out_stream import OutStream
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from projections.errors import ReadSideError
from projections.fold import row_codec
from projections.read_side import ReadSide
from projections.store import Store
from services.server import GatewayParts, GatewayServer

CONNECT_SECONDS_MAX = 30.0
OPEN_RETRY_SECONDS = 0.05
READ_SIDE_STOPPED = "read_side_stopped"
CLOCK_DAMAGED = "clock_damaged"
TRAIT_INDEX_KEY = b"koseki trait index v1"


def begin(config: bytes) -> Settings:
    """Begin a process of Ray's: its logs hold ids only, whatever fails in it."""
    configure_logs()
    return Settings.from_bytes(config)


async def open_connection(settings: Settings, name: str, *, role: Role) -> Connection:
    """Connect in a role. Raises `LogError` and `CredentialsFault`.

    To the embedded server, which asks nobody who they are, only if it is the one that was started:
    another may have come to its port. In a cluster it is the credentials that tell.
    """
    cluster = settings.nats_cluster
    connection = await Connection.open(
        settings.nats_servers,
        name=f"koseki-{name}",
        timeout_seconds=CONNECT_SECONDS_MAX,
        options=cluster.options(role) if cluster is not None else None,
    )
    if cluster is None:
        await connection.wait_for_server_name(
            settings.nats_server_name, timeout_seconds=CONNECT_SECONDS_MAX
        )
    return connection


async def open_keys(connection: Connection, settings: Settings) -> KeyRing:
    """Open the keys that seal what is personal. Raises `LogError`."""
    keys = JetStreamKeyStore(connection, settings.workspace, source=settings.workspace_key_source)
    await keys.open(replicas=settings.replicas)
    return KeyRing(keys)


async def open_log(connection: Connection, settings: Settings) -> JetStreamEventLog:
    """Open the log with its keys. Raises `LogError`."""
    keys = await open_keys(connection, settings)
    closed = closed_records(settings)
    return JetStreamEventLog(connection, settings.workspace, keys=keys, closed=closed)


async def prepare_streams(settings: Settings) -> None:
    """Make the streams that are not there, check those that are. Raises `LogError`.

    In a cluster the role `operator` makes them; where its credentials are not given they must be
    there, and the others check them.
    """
    cluster = settings.nats_cluster
    if cluster is not None and not cluster.has("operator"):
        await _check_streams(settings)
        return
    connection = await open_connection(settings, "up", role="operator")
    try:

        async def prepare(_timeout_seconds: float) -> None:
            workspace, replicas = settings.workspace, settings.replicas
            log = JetStreamEventLog(connection, workspace)
            await log.ensure_stream(replicas=replicas)
            if cluster is None:
                refuse_encryption(settings.nats_folder)
            await _prepare_keys_and_snapshots(connection, settings)
            await JetStreamIntake(connection, workspace=workspace, replicas=replicas).open_streams()
            await (await open_dead_letters(connection, settings)).open()
            await OutStream(connection, workspace).open(replicas=replicas)

        # A cluster that has just started takes a moment to elect whoever makes streams.
        await until_answered(connection, prepare, timeout_seconds=CONNECT_SECONDS_MAX)
    finally:
        await connection.close()


async def _prepare_keys_and_snapshots(connection: Connection, settings: Settings) -> None:
    keys = JetStreamKeyStore(connection, settings.workspace, source=settings.workspace_key_source)
    await keys.open(replicas=settings.replicas)
    await keys.finish_turn_over()
    await (await open_letter_keys(connection, settings)).finish_turn_over()
    snapshots = JetStreamSnapshotStore(connection, settings.workspace, keys=KeyRing(keys))
    await snapshots.open(replicas=settings.replicas)


async def _check_streams(settings: Settings) -> None:
    connection = await open_connection(settings, "up", role="host")
    try:
        log = JetStreamEventLog(connection, settings.workspace)
        await log.require_stream(replicas=settings.replicas)
        await (await open_log(connection, settings)).close()
    finally:
        await connection.close()


async def build_host(config: bytes, number: int) -> ServingHost:
    """Build and start a host of customers."""
    settings = begin(config)
    connection = await open_connection(settings, f"host-{number}", role="host")
    placement = Placement(settings.hosts)
    keys = await open_keys(connection, settings)
    closed = closed_records(settings)
    log = JetStreamEventLog(connection, settings.workspace, keys=keys, closed=closed)
    snapshots = JetStreamSnapshotStore(connection, settings.workspace, keys=keys)
    await snapshots.open(replicas=settings.replicas)
    read_side = ReadSideHeads(settings.read_side_folder, closed=closed)
    guard = open_guard(connection, log, settings, checkpoint=read_side.checkpoint)
    host = CustomerHost(
        log,
        owns=lambda root: placement.host_of(root) == number,
        clock=await open_clock(log, guard),
        guard=guard,
        heads=read_side,
        snapshots=snapshots,
    )
    lanes = NatsLanes(connection, settings.workspace)
    serving = ServingHost(host, lanes, number=number, epoch=SystemClock().new_id())
    await serving.start()
    return serving


class ProjectorComponent:
    """The projector, as a process runs it."""

    def __init__(
        self, read_side: ReadSide, guard: LogGuard, settings: Settings, *, signs: bool
    ) -> None:
        self._read_side = read_side
        self._signs = signs
        self._guard = guard
        self._settings = settings

    async def run(self) -> None:
        """Fold the log for ever; of a damaged log, fold nothing more. One replica signs."""
        await self._guard.start()
        if not self._signs:
            await self._fold()
            return
        attesting = asyncio.create_task(
            attest_for_ever(
                self._settings,
                lambda: self._read_side.checkpoint,
                is_sound=lambda: self._guard.is_sound,
            )
        )
        try:
            await self._fold()
        finally:
            attesting.cancel()
            await asyncio.gather(attesting, return_exceptions=True)

    async def _fold(self) -> None:
        folding = asyncio.create_task(self._read_side.run())
        condemned = asyncio.create_task(self._guard.wait_condemned())
        try:
            await asyncio.wait({folding, condemned}, return_when=asyncio.FIRST_COMPLETED)
            if folding.done():
                folding.result()
        except LogDamaged:
            self._guard.condemn(READ_SIDE_STOPPED)
        finally:
            folding.cancel()
            condemned.cancel()
            await asyncio.gather(folding, condemned, return_exceptions=True)
        if not self._guard.is_sound:
            await asyncio.Event().wait()  # to say so: a restart would find the same

    async def status(self) -> dict[str, Any]:
        """Say how far the read side has come."""
        revision, rebuilt_to = self._read_side.checkpoint.revision, self._read_side.rebuilt_to
        rebuild = {} if rebuilt_to is None else {"rebuilt_to_revision": rebuilt_to}
        return {"is_ready": True, "revision": revision, **rebuild, **self._guard.status()}


async def build_projector(config: bytes, number: int) -> ProjectorComponent:
    """Build a projector and open its replica of the read side for writing."""
    settings = begin(config)
    connection = await open_connection(settings, f"projector-{number}", role="reader")
    log = await open_log(connection, settings)
    codec = row_codec(log, index_key=trait_index_key(settings))
    folder = settings.read_side_folders[number]
    read_side = ReadSide(log, folder, codec, processes=cores())
    guard = open_guard(connection, log, settings, checkpoint=lambda: read_side.checkpoint)
    return ProjectorComponent(read_side, guard, settings, signs=number == 0)


class IngestComponent:
    """The ingest worker, as a process runs it."""

    def __init__(self, worker: IngestWorker) -> None:
        self._worker = worker

    async def run(self) -> None:
        """Take messages for ever."""
        await self._worker.run()

    async def status(self) -> dict[str, Any]:
        """Give the worker's counters."""
        return {"is_ready": True, **self._worker.counters.report().as_dict()}


async def build_ingest_worker(config: bytes, number: int) -> IngestComponent:
    """Build an ingest worker."""
    settings = begin(config)
    connection = await open_connection(settings, f"ingest-worker-{number}", role="worker")
    queue = JetStreamIntake(
        connection,
        workspace=settings.workspace,
        places=range(number, INTAKE_STREAMS, settings.ingest_workers),
        ack_wait_seconds=settings.redeliver_after_seconds,
        replicas=settings.replicas,
    )
    await queue.open()
    dead_letters = await open_dead_letters(connection, settings)
    await dead_letters.open()
    # Without keys: whom an identifier names is not sealed, nor are the rules; it reads no more.
    log = JetStreamEventLog(connection, settings.workspace)
    clock = await open_clock(log)
    rules = RulesKeeper(log, clock)
    await rules.start()
    worker = IngestWorker(
        queue,
        dead_letters,
        router=await build_router(settings, log, connection),
        decode=partial(decode_message, normaliser=build_normaliser(settings, rules)),
        clock=clock,
        subject_prefix=f"koseki.{settings.workspace}.ingest",
        limits=WorkerLimits(settled_kept_seconds=settings.intake_kept_seconds),
    )
    return IngestComponent(worker)


async def build_gateway(config: bytes, number: int) -> GatewayComponent:
    """Build a gRPC gateway."""
    settings = begin(config)
    connection = await open_connection(settings, f"gateway-{number}", role="gateway")
    log = await open_log(connection, settings)
    folders = settings.read_side_folders
    store = await open_read_side(
        log, folders[number % len(folders)], index_key=trait_index_key(settings)
    )
    guard = open_guard(connection, log, settings, checkpoint=lambda: store.checkpoint)
    await guard.start()
    clock = await open_clock(log, guard)
    rules = RulesKeeper(log, clock, on_damage=guard.condemn)
    with suppress(LogDamaged):  # the guard was told; what can be read is still served
        await rules.start()
    parts = GatewayParts(
        workspace=settings.workspace,
        log=log,
        router=await build_router(settings, log, connection),
        rules=rules,
        store=store,
        normaliser=build_normaliser(settings, rules),
        clock=clock,
        is_for_auditors=settings.serve_audits,
        guard=guard,
    )
    server = GatewayServer(parts, host=settings.grpc_host, port=settings.grpc_port)
    return GatewayComponent(server, clock, guard)


async def open_clock(log: JetStreamEventLog, guard: LogGuard | None = None) -> LogClock:
    """Open the log's clock for a process that dates what it decides. Raises `LogError`.

    A clock that cannot be read closes the log for whoever decides, and is the machine's for others.
    """
    clock = LogClock(log, SystemClock())
    if guard is not None:
        guard.own_clock = lambda: None if clock.is_manual else clock.now()
    try:
        await clock.start()
    except LogDamaged:
        if guard is not None:
            guard.condemn(CLOCK_DAMAGED)
    return clock


def build_normaliser(settings: Settings, rules: RulesKeeper) -> IdentifierNormaliser:
    """Build what normalises identifiers, by the rules as they are when each comes in."""
    return IdentifierNormaliser(ensure_pepper(settings), rules=lambda: rules.rules)


async def build_router(
    settings: Settings, log: JetStreamEventLog, connection: Connection
) -> CommandRouter:
    """Build the ways to the hosts; only in a process of Ray's. Raises `LogError`."""
    from actors.remote import RayHostLink  # Ray is heavy, and only its own processes need it.

    lanes, table = NatsLanes(connection, settings.workspace), HostTable(settings.hosts)
    await table.start(lanes)
    larger = WatchedLink(RayHostLink(settings.workspace), table)
    return CommandRouter(
        log,
        RequestLane("bulk", lanes, table, larger=larger),
        placement=Placement(settings.hosts),
        clock=SystemClock(),
        commands=RequestLane("command", lanes, table, larger=larger),
        table=table,
    )


def trait_index_key(settings: Settings) -> bytes:
    """Derive the key of the HMACs that stand for personal values in the indexes over traits."""
    return hmac.digest(ensure_pepper(settings), TRAIT_INDEX_KEY, "sha256")


async def open_read_side(
    log: JetStreamEventLog, folder: Path, *, index_key: bytes | None = None
) -> Store:
    """Open a replica of the read side for reading, as soon as its projector has made it."""
    codec = row_codec(log, index_key=index_key)
    deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS_MAX
    while asyncio.get_running_loop().time() < deadline:
        with suppress(ReadSideError):
            return Store.open_reader(folder, codec)
        await asyncio.sleep(OPEN_RETRY_SECONDS)
    return Store.open_reader(folder, codec)
