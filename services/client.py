"""A client of the gRPC services, for Koseki's own tools: one channel, every stub, one deadline."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from koseki.v1 import (
    customer_service_pb2_grpc,
    ingest_service_pb2_grpc,
    query_service_pb2_grpc,
    workspace_service_pb2_grpc,
)

ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Client:
    """Call a gateway: `async with Client("host:port") as client: await client.query.GetRules(...)`."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", ANSWER_BYTES_MAX)]
        )
        self.customer = customer_service_pb2_grpc.CustomerServiceStub(self._channel)
        self.ingest = ingest_service_pb2_grpc.IngestServiceStub(self._channel)
        self.query = query_service_pb2_grpc.QueryServiceStub(self._channel)
        self.workspace = workspace_service_pb2_grpc.WorkspaceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close(None)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Read the stable reason of an error; empty where there is none."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads either kind
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
