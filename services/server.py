"""The gRPC server of one process: every service on one port, with health and reflection.

Several processes may share the port (`SO_REUSEPORT`); each runs one event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from actors.clock import Clock
from actors.intake.identifiers import IdentifierNormaliser
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from eventlog.guard import LogGuard
from eventlog.port import LogReader
from koseki.v1 import (
    audit_service_pb2_grpc,
    customer_service_pb2_grpc,
    ingest_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    segment_service_pb2_grpc,
    workspace_service_pb2_grpc,
)
from projections.store import Store
from services.audit import AuditService
from services.contract import SERVICES
from services.customer import CustomerService
from services.exchanges import ExchangeLimits, Exchanges
from services.freshness import Freshness
from services.ingest import IngestService
from services.methods import Methods
from services.past import PastReader
from services.query import QueryService
from services.requests import RequestReader
from services.segment import SegmentService
from services.watching import Watches
from services.workspace import WorkspaceService

REQUEST_BYTES_MAX = 4 * 1024 * 1024
CALLS_AT_ONCE_MAX = 2_000
STOP_SECONDS = 2.0
OPTIONS = (
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
QUERIES = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"].full_name


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the services stand on; all of one workspace."""

    workspace: str
    log: LogReader
    router: CommandRouter
    rules: RulesKeeper
    store: Store
    normaliser: IdentifierNormaliser
    clock: Clock
    is_for_auditors: bool = False
    guard: LogGuard | None = None


class _Reading(TypedDict):
    store: Store
    freshness: Freshness
    watches: Watches


class GatewayServer:
    """Serve on one address until stopped."""

    def __init__(
        self, parts: GatewayParts, *, host: str, port: int, limits: ExchangeLimits | None = None
    ) -> None:
        self._address = f"{host}:{port}"
        limits = limits or ExchangeLimits()
        self._exchanges = Exchanges(limits)
        self._server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=CALLS_AT_ONCE_MAX)
        self._health = health.aio.HealthServicer()
        methods = Methods(limits)
        # What generated code asks of a server, `Methods` has.
        _add_services(cast("grpc.aio.Server", methods), parts, self._exchanges)
        _add_health_and_reflection(cast("grpc.aio.Server", methods), self._health)
        self._server.add_generic_rpc_handlers((methods,))

    async def start(self) -> None:
        """Take the port and report as serving. Raises `OSError` if the port is not free."""
        try:
            bound = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}") from error
        if not bound:
            raise OSError(f"cannot listen on {self._address}")
        await self._server.start()
        for name in ("", *SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def report_damage(self) -> None:
        """Report that nothing can be stored; questions are still served, and no check says yes."""
        for name in {"", *SERVICES} - {QUERIES}:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def wait(self) -> None:
        """Serve until stopped."""
        await self._server.wait_for_termination()

    async def stop(self) -> None:
        """Stop taking calls, and give those under way `STOP_SECONDS`."""
        await self._health.enter_graceful_shutdown()
        self._exchanges.stop()
        await self._server.stop(STOP_SECONDS)


def _add_services(server: grpc.aio.Server, parts: GatewayParts, exchanges: Exchanges) -> None:
    reader = RequestReader(parts.workspace, normaliser=parts.normaliser, clock=parts.clock)
    freshness = Freshness(lambda: parts.store.checkpoint.revision)
    past = PastReader(parts.log, reader, store=parts.store, guard=parts.guard)
    watches = Watches(parts.store, freshness)
    reading = _Reading(store=parts.store, freshness=freshness, watches=watches)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
        AuditService(
            parts.log,
            reader,
            store=parts.store,
            freshness=freshness,
            past=past,
            is_for_auditors=parts.is_for_auditors,
        ),
        server,
    )
    customer_service_pb2_grpc.add_CustomerServiceServicer_to_server(
        CustomerService(parts.router, reader, past), server
    )
    ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(
        IngestService(parts.router, reader, parts.rules, exchanges=exchanges),
        server,
    )
    query_service_pb2_grpc.add_QueryServiceServicer_to_server(
        QueryService(parts.router, reader, **reading, past=past), server
    )
    segment_service_pb2_grpc.add_SegmentServiceServicer_to_server(
        SegmentService(parts.rules, reader, **reading, past=past), server
    )
    workspace_service_pb2_grpc.add_WorkspaceServiceServicer_to_server(
        WorkspaceService(parts.rules, reader), server
    )


def _add_health_and_reflection(
    server: grpc.aio.Server, health_servicer: health.aio.HealthServicer
) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (*SERVICES, HEALTH, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]  # generated, and has no stubs
        reflection.aio.ReflectionServicer(names), server
    )
