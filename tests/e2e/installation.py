"""An installation as a user runs it: `koseki up` in a process of its own, and the ways in.

Everything that a run could leave behind is compared with what was there before it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import orjson
import psutil

from app.processes import is_alive
from koseki.v1 import (
    common_pb2,
    customer_service_pb2,
    customer_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
READY_SECONDS_MAX = 120.0
COMMAND_SECONDS_MAX = 60.0
CALL_SECONDS = 15.0
RETRY_SECONDS_MAX = 150.0
RETRY_AFTER_SECONDS = 0.1
SERVERS = ("supervisor", "nats-server", "runtime")
AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
    }
)
"""What a caller answers by sending again with the same command id."""


def koseki(*arguments: str) -> list[str]:
    """Give the command line of `koseki`, of this environment."""
    return [str(Path(sys.executable).parent / "koseki"), *arguments]


ENDS_WITH_TESTS = """\
from app.processes import end_with_parent
from app.cli import main
end_with_parent()
main()
"""
"""A test run that is killed takes its installation along."""


def run_koseki(*arguments: str, seconds: float = COMMAND_SECONDS_MAX) -> tuple[int, str, str]:
    """Run a command to its end; give exit status, output and errors."""
    done = subprocess.run(
        koseki(*arguments), capture_output=True, text=True, timeout=seconds, check=False
    )
    return done.returncode, done.stdout, done.stderr


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a run could leave on the machine."""

    shared_memory: frozenset[str]
    ray_folders: frozenset[str]

    @classmethod
    def now(cls) -> Leftovers:
        """Look at the machine."""
        memory = Path("/dev/shm")
        return cls(
            frozenset(path.name for path in memory.iterdir()) if memory.is_dir() else frozenset(),
            frozenset(path.name for path in Path(tempfile.gettempdir()).glob("koseki-ray-*")),
        )

    def since(self, before: Leftovers) -> set[str]:
        """Name what was not there before."""
        return set(self.shared_memory - before.shared_memory) | set(
            self.ray_folders - before.ray_folders
        )


def processes_of(data: Path) -> list[psutil.Process]:
    """Find the processes whose command line names the folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and str(data) in " ".join(process.cmdline()):
                found.append(process)
    return found


@dataclass
class Installation:
    """A running `koseki up`."""

    data: Path
    process: subprocess.Popen[str]
    where: dict[str, str]
    leftovers: Leftovers
    tree: dict[int, psutil.Process] = field(default_factory=dict)

    @classmethod
    def start(cls, data: Path, *options: str) -> Installation:
        """Start it and wait until it says where it listens."""
        leftovers = Leftovers.now()
        errors = (data.parent / f"{data.name}.errors").open("ab")
        with errors:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    ENDS_WITH_TESTS,
                    "up",
                    "--data",
                    str(data),
                    "--json",
                    *options,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (data.parent / f"{data.name}.errors").read_text()
        return cls(data, process, orjson.loads(line), leftovers)

    def look(self) -> list[psutil.Process]:
        """Note and give every process below."""
        with suppress(psutil.Error):
            below = psutil.Process(self.process.pid).children(recursive=True)
            self.tree |= {process.pid: process for process in below}
            return below
        return []

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end with status 0 within the time it has."""
        self.look()
        os.killpg(self.process.pid, signal.SIGINT)  # a terminal tells the whole group
        assert self.process.wait(STOP_SECONDS_MAX) == 0

    def left_behind(self) -> set[str]:
        """Name what is still there of it."""
        alive = {p.pid: p for p in self.tree.values() if is_alive(p)}
        alive |= {p.pid: p for p in processes_of(self.data)}
        left = Leftovers.now().since(self.leftovers)
        # Another installation on the machine may have begun meanwhile.
        mine = {name for name in left if name.startswith(f"koseki-ray-{self.process.pid}-")}
        others = {name for name in left if name.startswith("koseki-ray-")}
        return mine | (left - others) | {str(process) for process in alive.values()}

    def end(self) -> None:
        """End it by force, if a test has not."""
        self.look()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in self.tree.values():
            with suppress(psutil.Error):
                process.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def json(self, *command: str) -> dict[str, Any]:
        """Run a command of `koseki` on it; give the JSON that it printed."""
        status, printed, errors = run_koseki(*command, "--data", str(self.data), "--json")
        assert status == 0, (command, status, printed, errors)
        answer: dict[str, Any] = orjson.loads(printed)
        return answer

    def parts(self) -> dict[str, dict[str, Any]]:
        """Read what every part last said, as `koseki status` does, without its cost."""
        running = read_json(self.data / "running.json")
        parts = {
            "supervisor": {"pid": running.get("supervisor_pid")},
            "nats-server": {"pid": running.get("nats_server_pid")},
            "runtime": {"pid": running.get("runtime_pid")},
        }
        return {**parts, **read_json(self.data / "processes.json")}

    def pid_of(self, part: str) -> int:
        """Find a process by the name that it has in `koseki status`, or Ray's own by its name."""
        parts = self.parts()
        if part in parts:
            return int(parts[part]["pid"])
        [process] = [process for process in self.look() if process.name() == part]
        return process.pid


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that is being replaced; empty where there is none."""
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return found


def are_ready(parts: dict[str, dict[str, Any]]) -> bool:
    """Say whether every part that Ray runs answers."""
    asked = [part for name, part in parts.items() if name not in SERVERS]
    return bool(asked) and all(part.get("is_ready") for part in asked)


@contextmanager
def installed(data: Path, *options: str) -> Iterator[Installation]:
    """Run an installation, and end it whatever happens."""
    running = Installation.start(data, *options)
    try:
        yield running
    finally:
        running.end()


class Caller:
    """The gRPC services of an installation, called until they answer."""

    def __init__(self, installation: Installation) -> None:
        self.channel = grpc.aio.insecure_channel(
            installation.where["grpc"], options=[("grpc.max_reconnect_backoff_ms", 500)]
        )
        self.customer = customer_service_pb2_grpc.CustomerServiceStub(self.channel)
        self.signals = ingest_service_pb2_grpc.IngestServiceStub(self.channel)
        self.query = query_service_pb2_grpc.QueryServiceStub(self.channel)
        self.workspace = workspace_service_pb2_grpc.WorkspaceServiceStub(self.channel)
        self.sent_again = 0

    async def until_answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call again while the answer is to send again."""
        async with asyncio.timeout(RETRY_SECONDS_MAX):
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    if error.code() not in AGAIN:
                        raise
                self.sent_again += 1
                await asyncio.sleep(RETRY_AFTER_SECONDS)

    async def define_rules(self) -> None:
        """Define the purposes of the demo and the source `shop`."""
        bases = {
            "service": common_pb2.LAWFUL_BASIS_CONTRACT,
            "analytics": common_pb2.LAWFUL_BASIS_LEGITIMATE_INTEREST,
            "marketing": common_pb2.LAWFUL_BASIS_CONSENT,
        }
        for purpose, basis in bases.items():
            await self.workspace.DefinePurpose(
                workspace_service_pb2.DefinePurposeRequest(purpose=purpose, lawful_basis=basis),
                timeout=CALL_SECONDS,
            )
        await self.workspace.RegisterSource(
            workspace_service_pb2.RegisterSourceRequest(source="shop", purposes=list(bases)),
            timeout=CALL_SECONDS,
        )

    async def consent(self, person: common_pb2.Identifier, *, command_id: str) -> Any:
        """Record that a person agreed to marketing."""
        request = customer_service_pb2.RecordConsentRequest(
            identifiers=[person],
            purpose="marketing",
            state=common_pb2.CONSENT_STATE_GIVEN,
            command_id=command_id,
        )
        return await self.until_answered(
            lambda: self.customer.RecordConsent(request, timeout=CALL_SECONDS)
        )

    async def ingest(self, *signals: ingest_service_pb2.Signal) -> list[Any]:
        """Send signals until each is stored or known already; give the outcomes."""
        request = ingest_service_pb2.IngestRequest(source="shop", signals=signals)
        async with asyncio.timeout(RETRY_SECONDS_MAX):
            while True:
                answer = await self.until_answered(
                    lambda: self.signals.Ingest(request, timeout=CALL_SECONDS)
                )
                failed = ingest_service_pb2.SIGNAL_RESULT_FAILED
                if all(outcome.result != failed for outcome in answer.outcomes):
                    return list(answer.outcomes)
                self.sent_again += 1
                await asyncio.sleep(RETRY_AFTER_SECONDS)

    async def check(self, person: common_pb2.Identifier, purpose: str) -> Any:
        """Ask whether a purpose is open for a person."""
        request = query_service_pb2.CheckConsentRequest(identifiers=[person], purpose=purpose)
        return await self.until_answered(
            lambda: self.query.CheckConsent(request, timeout=CALL_SECONDS)
        )

    async def get(
        self, person: common_pb2.Identifier, *, at_least_revision: int = 0
    ) -> query_service_pb2.Customer:
        """Read a customer for service."""
        request = query_service_pb2.GetCustomerRequest(
            identifier=person, purpose="service", at_least_revision=at_least_revision
        )
        answer = await self.query.GetCustomer(request, timeout=CALL_SECONDS)
        return answer.customer

    async def history(self, person: common_pb2.Identifier) -> list[Any]:
        """List the acts of consent of a person, as service sees them."""
        request = query_service_pb2.ListConsentHistoryRequest(identifier=person, purpose="service")
        answer = await self.query.ListConsentHistory(request, timeout=CALL_SECONDS)
        return list(answer.acts)

    async def get_many(self, people: list[common_pb2.Identifier]) -> Any:
        """Read customers for service."""
        references = [common_pb2.CustomerReference(identifier=person) for person in people]
        request = query_service_pb2.BatchGetCustomersRequest(
            references=references, purpose="service"
        )
        return await self.query.BatchGetCustomers(request, timeout=CALL_SECONDS)


def person(value: str, namespace: str = "user_id") -> common_pb2.Identifier:
    """Name a person."""
    return common_pb2.Identifier(namespace=namespace, value=value)


def order(message_id: str, who: common_pb2.Identifier, **properties: Any) -> Any:
    """Make a signal."""
    made = ingest_service_pb2.Signal(
        message_id=message_id, name="Order Completed", identifiers=[who]
    )
    made.properties.update(properties)
    return made


def cloud_event(message_id: str, call: dict[str, Any]) -> dict[str, Any]:
    """Put a call of the Segment spec into a CloudEvent."""
    return {
        "specversion": "1.0",
        "id": message_id,
        "source": "/shop",
        "type": f"com.segment.{call['type']}",
        "time": datetime.now(UTC).isoformat(),
        "data": call,
    }


def track(message_id: str, user_id: str, **fields: Any) -> dict[str, Any]:
    """Make a CloudEvent of a purchase."""
    call = {"type": "track", "event": "Order Completed", "userId": user_id, **fields}
    return cloud_event(message_id, call)
