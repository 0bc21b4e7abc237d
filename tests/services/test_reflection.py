"""A client that knows only the address: health, and methods found and called by reflection."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from services.contract import SERVICES
from tests.services.edge import Edge, refusal, user

METHODS = {
    "koseki.v1.AuditService": {
        "ReplayEvents",
        "Verify",
        "DiffCustomer",
        "GetReceipt",
        "GetErasureReceipt",
    },
    "koseki.v1.CustomerService": {
        "Identify",
        "SetTraits",
        "RecordConsent",
        "RecordTcfString",
        "SetPreferences",
        "LinkHousehold",
        "UnlinkHousehold",
        "LinkIdentifiers",
        "UnlinkIdentifier",
        "ReadmitIdentifier",
        "EraseCustomer",
        "MergeCustomers",
        "UndoMerge",
        "UnmergeRecord",
        "Execute",
    },
    "koseki.v1.IngestService": {"Ingest", "IngestStream"},
    "koseki.v1.QueryService": {
        "GetCustomer",
        "BatchGetCustomers",
        "CheckConsent",
        "ListConsentHistory",
        "ListSegmentsOf",
        "ListTimeline",
        "WatchCustomer",
    },
    "koseki.v1.SegmentService": {
        "DefineSegment",
        "ListSegments",
        "ArchiveSegment",
        "ListMembers",
        "CountAudience",
        "WatchSegment",
        "ExplainMembership",
        "IndexTrait",
        "DropTraitIndex",
        "ListTraitIndexes",
    },
    "koseki.v1.WorkspaceService": {
        "DefinePurpose",
        "PublishNotice",
        "RegisterSource",
        "GetRules",
        "SetIdentityRules",
    },
}
OURS = set(METHODS)


def call_by_reflection(address: str) -> dict[str, str]:
    """List the services, and call one with what reflection says of it; nothing is generated."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = set(database.get_services())
        assert names >= OURS
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("koseki.v1.WorkspaceService")
        method = service.FindMethodByName("GetRules")
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        rules: Any = call(request(), timeout=10)
        return {purpose.name: purpose.description for purpose in rules.purposes}


async def test_a_client_that_knows_only_the_address_can_call_a_method(edge: Edge) -> None:
    found = await asyncio.to_thread(call_by_reflection, edge.address)
    assert set(found) == {"service", "analytics", "marketing"}


async def test_every_method_of_every_service_is_described(edge: Edge) -> None:
    def methods() -> dict[str, set[str]]:
        with grpc.insecure_channel(edge.address) as channel:
            pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            services = {name: pool.FindServiceByName(name) for name in OURS}
            return {name: {m.name for m in found.methods} for name, found in services.items()}

    assert await asyncio.to_thread(methods) == METHODS


@pytest.mark.parametrize("name", ["", *SERVICES])
async def test_every_service_reports_as_serving(edge: Edge, name: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_health_can_be_watched(edge: Edge) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="koseki.v1.IngestService"), timeout=10)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await edge.server.report_damage()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def test_an_unheard_of_service_is_not_found(edge: Edge) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    found = await refusal(stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=10))
    assert found.code is grpc.StatusCode.NOT_FOUND
    assert (await edge.identify(user("1"))).created
