"""A whole installation for a part: `koseki up` in processes of its own, and its gRPC services.

The harness measures from outside, as a client does. Its folder is gone after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import orjson

from koseki.v1 import (
    common_pb2,
    customer_service_pb2,
    customer_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    segment_service_pb2,
    segment_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)

SOURCE = "shop"
PURPOSES = {
    "service": common_pb2.LAWFUL_BASIS_CONTRACT,
    "analytics": common_pb2.LAWFUL_BASIS_LEGITIMATE_INTEREST,
}
CALL_SECONDS_MAX = 30.0
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Installation:
    """A running installation, and stubs of the services that are measured: publishers', commands'.

    Made once, as a client's are.
    """

    folder: Path
    nats_url: str
    channel: grpc.aio.Channel
    ingesting: ingest_service_pb2_grpc.IngestServiceAsyncStub
    commanding: customer_service_pb2_grpc.CustomerServiceAsyncStub

    def parts(self) -> dict[str, dict[str, Any]]:  # Any: counters of many types
        """Read what every part last said of itself."""
        try:
            found: dict[str, dict[str, Any]] = orjson.loads(
                (self.folder / "processes.json").read_bytes()
            )
        except (FileNotFoundError, orjson.JSONDecodeError):
            return {}
        return found

    async def wait_ready(self) -> None:
        """Wait until every part answers."""
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not self._is_ready():  # noqa: ASYNC110  # a file tells, no event
                await asyncio.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        parts = self.parts().values()
        return bool(parts) and all(part.get("is_ready") for part in parts)

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Keep a part stopped, as if it were not there."""
        pid = int(self.parts()[part]["pid"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def define_rules(self) -> None:
        """Define purposes that are open, and a source that declares them."""
        service = workspace_service_pb2_grpc.WorkspaceServiceStub(self.channel)
        for purpose, basis in PURPOSES.items():
            asked = workspace_service_pb2.DefinePurposeRequest(purpose=purpose, lawful_basis=basis)
            await service.DefinePurpose(asked, timeout=CALL_SECONDS_MAX)
        source = workspace_service_pb2.RegisterSourceRequest(source=SOURCE, purposes=list(PURPOSES))
        await service.RegisterSource(source, timeout=CALL_SECONDS_MAX)

    async def define_segments(self, number: int) -> None:
        """Define segments that count what is bought, and wait until they are in effect."""
        service = segment_service_pb2_grpc.SegmentServiceStub(self.channel)
        for place in range(number):
            asked = segment_service_pb2.DefineSegmentRequest(
                segment=f"buyers_{place}",
                expression=f'count("Order Completed", "30d") > {place}',
                purposes=["analytics"],
            )
            await service.DefineSegment(asked, timeout=CALL_SECONDS_MAX)
        active = segment_service_pb2.SEGMENT_STATE_ACTIVE
        listing = segment_service_pb2.ListSegmentsRequest()
        async with asyncio.timeout(READY_SECONDS_MAX):
            while True:
                listed = await service.ListSegments(listing, timeout=CALL_SECONDS_MAX)
                if sum(segment.state == active for segment in listed.segments) == number:
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def ingest(self, request: ingest_service_pb2.IngestRequest) -> None:
        """Ingest signals, each of which must be recorded."""
        answer = await self.ingesting.Ingest(request, timeout=CALL_SECONDS_MAX)
        recorded = ingest_service_pb2.SIGNAL_RESULT_RECORDED
        lost = [o.reason for o in answer.outcomes if o.result != recorded]
        if lost:
            raise RuntimeError(f"{len(lost)} signals were not recorded: {lost[0]}")

    async def set_trait(self, person: common_pb2.Identifier, value: float) -> None:
        """Execute one command."""
        asked = customer_service_pb2.SetTraitsRequest(source=SOURCE, identifiers=[person])
        asked.traits.update({"score": value})
        await self.commanding.SetTraits(asked, timeout=CALL_SECONDS_MAX)


@asynccontextmanager
async def installation() -> AsyncIterator[Installation]:
    """Run an installation with two hosts, ready and with rules; end it after."""
    with tempfile.TemporaryDirectory(prefix="koseki-bench-") as folder:
        data = Path(folder) / "data"
        process = subprocess.Popen(  # noqa: ASYNC220, S603  # our own program, before there is else to do
            [*KOSEKI, "up", "--data", str(data), "--hosts", "2", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            async with _opened(process, data) as opened:
                yield opened
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS_MAX)
            finally:
                process.kill()


KOSEKI = (sys.executable, "-c", "from app.cli import main; main()")


@asynccontextmanager
async def _opened(process: subprocess.Popen[str], data: Path) -> AsyncIterator[Installation]:
    line = await asyncio.to_thread(process.stdout.readline) if process.stdout else ""
    if not line:
        raise RuntimeError("the installation did not start")
    where = orjson.loads(line)
    async with grpc.aio.insecure_channel(where["grpc"]) as channel:
        opened = Installation(
            folder=data,
            nats_url=where["nats"],
            channel=channel,
            ingesting=ingest_service_pb2_grpc.IngestServiceStub(channel),
            commanding=customer_service_pb2_grpc.CustomerServiceStub(channel),
        )
        await opened.wait_ready()
        await opened.define_rules()
        yield opened
