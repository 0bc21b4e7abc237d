"""A gateway in one process for tests: a real gRPC server over hosts, a projector and a read side.

Two gateways may stand over one log, each with hosts that believe to own every customer: what one
writes the other must not overlook.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from actors.intake.identifiers import IdentifierNormaliser
from actors.steward import Duty, Steward
from app.stewarding import ActivationDuty
from eventlog.guard import LogGuard
from eventlog.port import EventLog
from eventlog.server import free_port
from koseki.v1 import (
    audit_service_pb2_grpc,
    common_pb2,
    customer_service_pb2,
    customer_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    segment_service_pb2,
    segment_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from projections.fold import row_codec
from projections.runner import Projector
from projections.store import Store
from services.exchanges import ExchangeLimits
from services.server import GatewayParts, GatewayServer
from tests.actors.house import CLOCK, Workspace

PEPPER = b"a pepper of tests, 32 bytes long"
SECONDS = 20.0
BASES = {
    "service": common_pb2.LAWFUL_BASIS_CONTRACT,
    "analytics": common_pb2.LAWFUL_BASIS_LEGITIMATE_INTEREST,
    "marketing": common_pb2.LAWFUL_BASIS_CONSENT,
}
SOURCES = {
    "shop": ("service", "analytics", "marketing"),
    "ads": ("marketing",),
    "desk": ("service",),
}
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call failed: its status, its stable reason, the fields named, all that was said."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    metadata: dict[str, str]
    said: str


def named(namespace: str, value: str) -> common_pb2.Identifier:
    """Name a person in any namespace."""
    return common_pb2.Identifier(namespace=namespace, value=value)


def user(value: str) -> common_pb2.Identifier:
    """Name a person by the strongest namespace."""
    return common_pb2.Identifier(namespace="user_id", value=value)


def loyalty(value: str) -> common_pb2.Identifier:
    """Name a person by a weak namespace."""
    return common_pb2.Identifier(namespace="loyalty_id", value=value)


def signal(message_id: str, *identifiers: common_pb2.Identifier, **said: Any) -> Any:
    """Make a signal; `cds` and the like become properties."""
    made = ingest_service_pb2.Signal(
        message_id=message_id, name=said.pop("name", "Order Completed"), identifiers=identifiers
    )
    made.properties.update(said)
    return made


@dataclass
class Edge:
    """Stubs of every service, and what stands behind them."""

    channel: grpc.aio.Channel
    address: str
    house: Workspace
    store: Store
    server: GatewayServer

    def __post_init__(self) -> None:
        self.audit = audit_service_pb2_grpc.AuditServiceStub(self.channel)
        self.customer = customer_service_pb2_grpc.CustomerServiceStub(self.channel)
        self.signals = ingest_service_pb2_grpc.IngestServiceStub(self.channel)
        self.query = query_service_pb2_grpc.QueryServiceStub(self.channel)
        self.segments = segment_service_pb2_grpc.SegmentServiceStub(self.channel)
        self.workspace = workspace_service_pb2_grpc.WorkspaceServiceStub(self.channel)

    async def restart_hosts(self) -> None:
        """Put fresh hosts behind the gateway, which goes on."""
        link = self.house.link
        await self.house.restart()
        link.hosts = self.house.hosts

    async def define_rules(self) -> None:
        """Define purposes and sources through the gateway."""
        for purpose, basis in BASES.items():
            await self.define(purpose=purpose, lawful_basis=basis)
        for source, purposes in SOURCES.items():
            await self.register(source=source, purposes=purposes)

    async def define(self, **fields: Any) -> workspace_service_pb2.DefinePurposeResponse:
        """Define a purpose."""
        request = workspace_service_pb2.DefinePurposeRequest(**fields)
        return await self.workspace.DefinePurpose(request, timeout=SECONDS)

    async def register(self, **fields: Any) -> workspace_service_pb2.RegisterSourceResponse:
        """Register a source."""
        request = workspace_service_pb2.RegisterSourceRequest(**fields)
        return await self.workspace.RegisterSource(request, timeout=SECONDS)

    async def define_segment(
        self, segment: str, expression: str, **fields: Any
    ) -> segment_service_pb2.DefineSegmentResponse:
        """Define a segment, for analytics."""
        fields = {"purposes": ["analytics"]} | fields
        request = segment_service_pb2.DefineSegmentRequest(
            segment=segment, expression=expression, **fields
        )
        return await self.segments.DefineSegment(request, timeout=SECONDS)

    async def until_active(self, name: str, *, revision: int) -> segment_service_pb2.Segment:
        """Wait until the latest definition of a segment is in effect."""
        request = segment_service_pb2.ListSegmentsRequest(at_least_revision=revision)
        async with asyncio.timeout(SECONDS):
            while True:
                answer = await self.segments.ListSegments(request, timeout=SECONDS)
                found = {segment.name: segment for segment in answer.segments}
                if found[name].state == segment_service_pb2.SEGMENT_STATE_ACTIVE:
                    return found[name]
                await asyncio.sleep(0.01)

    async def rules(self, **fields: Any) -> workspace_service_pb2.GetRulesResponse:
        """Ask for the rules."""
        request = workspace_service_pb2.GetRulesRequest(**fields)
        return await self.workspace.GetRules(request, timeout=SECONDS)

    async def identify(
        self, *identifiers: common_pb2.Identifier, **fields: Any
    ) -> customer_service_pb2.IdentifyResponse:
        """Identify, for the shop."""
        fields = {"source": "shop"} | fields
        request = customer_service_pb2.IdentifyRequest(identifiers=identifiers, **fields)
        return await self.customer.Identify(request, timeout=SECONDS)

    async def set_traits(
        self, *identifiers: common_pb2.Identifier, **fields: Any
    ) -> customer_service_pb2.SetTraitsResponse:
        """Set traits, for the shop."""
        fields = {"source": "shop", "traits": {"tier": "gold"}} | fields
        request = customer_service_pb2.SetTraitsRequest(identifiers=identifiers, **fields)
        return await self.customer.SetTraits(request, timeout=SECONDS)

    async def consent(
        self, state: str, *identifiers: common_pb2.Identifier, **fields: Any
    ) -> customer_service_pb2.RecordConsentResponse:
        """Record an act, on marketing."""
        fields = {"purpose": "marketing", "state": f"CONSENT_STATE_{state}"} | fields
        request = customer_service_pb2.RecordConsentRequest(identifiers=identifiers, **fields)
        return await self.customer.RecordConsent(request, timeout=SECONDS)

    async def ingest(self, *signals: Any, **fields: Any) -> list[Any]:
        """Ingest signals of the shop; give the outcomes."""
        fields = {"source": "shop"} | fields
        request = ingest_service_pb2.IngestRequest(signals=signals, **fields)
        answer = await self.signals.Ingest(request, timeout=SECONDS)
        return list(answer.outcomes)

    async def get(
        self, identifier: common_pb2.Identifier | None = None, **fields: Any
    ) -> query_service_pb2.Customer:
        """Read a customer, for service."""
        fields = {"purpose": "service", "identifier": identifier} | fields
        request = query_service_pb2.GetCustomerRequest(**fields)
        return (await self.query.GetCustomer(request, timeout=SECONDS)).customer

    async def get_many(self, *references: Fields, **fields: Any) -> Any:
        """Read customers, for service."""
        fields = {"purpose": "service"} | fields
        request = query_service_pb2.BatchGetCustomersRequest(
            references=[common_pb2.CustomerReference(**named) for named in references], **fields
        )
        return await self.query.BatchGetCustomers(request, timeout=SECONDS)

    async def check(
        self, *identifiers: common_pb2.Identifier, **fields: Any
    ) -> query_service_pb2.CheckConsentResponse:
        """Ask for consent, to marketing."""
        fields = {"purpose": "marketing"} | fields
        request = query_service_pb2.CheckConsentRequest(identifiers=identifiers, **fields)
        return await self.query.CheckConsent(request, timeout=SECONDS)


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Await a call that must fail; give how."""
    found = await refused(call)
    assert found is not None, "the call was answered"
    return found


async def refused(call: Awaitable[Any]) -> Refusal | None:
    """Await a call; give how it failed, None where it was answered."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return _refusal(error)
    return None


def _refusal(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads either kind of error
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        for message in (info, bad):
            detail.Unpack(message)
    return Refusal(
        code=error.code(),
        reason=info.reason,
        fields=tuple(violation.field for violation in bad.field_violations),
        metadata=dict(info.metadata),
        said=f"{error.details()} {status}",
    )


@asynccontextmanager
async def edge_over(
    log: EventLog,
    folder: Path,
    *,
    house: Workspace | None = None,
    is_for_auditors: bool = False,
    guard: LogGuard | None = None,
    limits: ExchangeLimits | None = None,
) -> AsyncIterator[Edge]:
    """Serve one workspace on a free port."""
    house = house or Workspace(log, doubled=True)
    await house.start()
    await house.rules.start()
    store = Store.open_writer(folder, row_codec(log, index_key=PEPPER))
    projecting = asyncio.create_task(Projector(log, store).run())
    activation = Duty("activation", 0.01, ActivationDuty(house.rules, store, CLOCK).do)
    stewarding = asyncio.create_task(Steward([activation]).run())
    parts = GatewayParts(
        workspace=log.workspace,
        log=log,
        router=house.router,
        rules=house.rules,
        store=store,
        normaliser=IdentifierNormaliser(PEPPER, rules=lambda: house.rules.rules),
        clock=CLOCK,
        is_for_auditors=is_for_auditors,
        guard=guard,
    )
    port = free_port()
    server = GatewayServer(parts, host="127.0.0.1", port=port, limits=limits)
    await server.start()
    address = f"127.0.0.1:{port}"
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Edge(channel, address, house, store, server)
    finally:
        await server.stop()
        projecting.cancel()
        stewarding.cancel()
        await asyncio.gather(projecting, stewarding, return_exceptions=True)
        await house.rules.close()
        await house.close()
        store.close()


async def unlink(edge: Edge, identifier: Any, **fields: Any) -> Any:
    """Take an identifier from whoever holds it."""
    request = customer_service_pb2.UnlinkIdentifierRequest(identifier=identifier, **fields)
    return await edge.customer.UnlinkIdentifier(request, timeout=SECONDS)
