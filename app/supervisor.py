"""Keeps one machine's installation alive: the runtime that drives Ray, and a nats-server.

`koseki up` and the demo run one; with an outside cluster there is no server to keep. Whatever ends
by itself is started again; on the way out all is stopped, the runtime first, and nothing is left
running. Children end when their parent is killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
import psutil
import structlog

from actors.intake.api import ApiRefused
from actors.intake.streams import MAPPINGS
from app.bootstrap import prepare_streams
from app.nats_cluster import PART_ROLES
from app.processes import (
    adopt_orphans,
    children_named,
    end_descendants,
    hold,
    is_alive,
)
from app.settings import (
    Settings,
    ensure_pepper,
    ensure_workspace_key,
    read_json,
    write_atomically,
)
from app.turning import begin_clock
from eventlog.server import DISK_RESERVE_BYTES, EmbeddedServer, free_port
from projections.errors import ReadSideNotReady, ReadSideOutdated
from projections.store import Store

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
"""A message too large for an event still arrives, so that it can be kept as a dead letter."""

READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 20.0
RESTART_WAIT_SECONDS = 0.5
LOOK_EVERY_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""What Ray left behind has so long to end by itself; none where Ray is started anew."""
PART_STARTS_MAX = 3
RAY_SERVERS = frozenset({"gcs_server", "raylet"})
_POLL_SECONDS = 0.1
_log = structlog.get_logger()


class StartFailed(Exception):
    """A part did not start; the message says which, and where its log is."""


class Supervisor:
    """Run an installation: `async with Supervisor(settings) as running: ...`."""

    def __init__(self, settings: Settings) -> None:
        self._server = None if settings.nats_cluster else self._embedded(settings)
        self._settings = settings
        self._runtime: Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ray_folder: Path | None = None
        self._lock: int | None = None
        self.runtime_restarts = 0

    @property
    def settings(self) -> Settings:
        """The settings, with the addresses that were found free."""
        return self._settings

    @property
    def server(self) -> EmbeddedServer:
        """The embedded nats-server. Raises `StartFailed` where a cluster is used instead."""
        if self._server is None:
            raise StartFailed("the servers of a cluster are not ours")
        return self._server

    def _embedded(self, settings: Settings) -> EmbeddedServer:
        return EmbeddedServer(
            settings.nats_folder,
            extra_config=MAPPINGS,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            disk_reserve_bytes=DISK_RESERVE_BYTES,
            on_restart=lambda _restarts: self._write_running(),
        )

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything and wait until it answers. Raises `StartFailed` or `LogError`."""
        adopt_orphans()
        try:
            self._take_folder()
        except OSError as error:
            raise StartFailed(f"{error.filename}: {error.strerror}") from error
        self._check_what_is_there()
        found: dict[str, Any] = {"grpc_port": self._settings.grpc_port or free_port()}
        if self._server is not None:
            await self._server.start()
            found |= {"nats_url": self._server.url, "nats_server_name": self._server.name}
        self._settings = self._settings.model_copy(update=found)
        await self._prepare_streams()
        await self._start_runtime()
        self._watcher = asyncio.create_task(self._keep_runtime(), name="keep-runtime")
        await self._until_ready()
        self._write_running()

    def _take_folder(self) -> None:
        """Take the folder for this process; clear what a killed one left. Raises `OSError`."""
        settings = self._settings
        settings.data.mkdir(parents=True, exist_ok=True)
        self._lock = hold(settings.lock_file)
        if self._lock is None:
            raise StartFailed(f"koseki runs on {settings.data} already")
        left = read_json(settings.running_file).get("ray_folder")
        if left:
            shutil.rmtree(left, ignore_errors=True)
        settings.running_file.unlink(missing_ok=True)
        settings.processes_file.unlink(missing_ok=True)
        settings.logs_folder.mkdir(parents=True, exist_ok=True)
        ensure_pepper(settings)
        ensure_workspace_key(settings)

    def _check_what_is_there(self) -> None:
        """Refuse what the parts would stumble over for ever. Raises `StartFailed` and the like."""
        address = (self._settings.grpc_host, self._settings.grpc_port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                where = f"{address[0]}:{address[1]}"
                raise StartFailed(f"gRPC cannot listen on {where}: {error.strerror}") from error
        with suppress(ReadSideNotReady, ReadSideOutdated):  # the projector makes it
            Store.open_reader(self._settings.read_side_folder).close()

    async def _prepare_streams(self) -> None:
        if self._settings.nats_cluster is not None:
            for role in PART_ROLES:  # before a part ends over it in a process of its own
                self._settings.nats_cluster.options(role)
        try:
            await prepare_streams(self._settings)
            await begin_clock(self._settings)
        except ApiRefused as error:
            raise StartFailed(f"intake's streams are not to be had: {error}") from error

    async def _start_runtime(self) -> None:
        self._remove_ray_folder()
        # Ray's sockets have paths of at most 107 bytes: the data folder may lie too deep for them.
        self._ray_folder = Path(tempfile.mkdtemp(prefix=f"koseki-ray-{os.getpid()}-"))
        log = (self._settings.logs_folder / "runtime.log").open("ab")
        try:
            self._runtime = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "app.runtime",
                self._settings.to_bytes().decode(),
                str(self._ray_folder),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            log.close()

    async def _keep_runtime(self) -> None:
        while self._runtime is not None:
            status = await _ended(self._runtime)
            _log.error("runtime_ended", status=status)
            self._settings.processes_file.unlink(missing_ok=True)
            await asyncio.to_thread(self._end_ray, grace_seconds=0.0)
            await asyncio.sleep(RESTART_WAIT_SECONDS)
            await self._start_runtime()
            self.runtime_restarts += 1
            self._write_running()

    async def _until_ready(self) -> None:
        seen: defaultdict[str, set[int]] = defaultdict(set)
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                while not self._is_ready():
                    if self.runtime_restarts:
                        raise StartFailed(self._where("Ray ended while it started"))
                    self._count_starts(seen)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise StartFailed(self._where("not every part answers")) from error

    def _count_starts(self, seen: defaultdict[str, set[int]]) -> None:
        """Give up on a part that ends again and again: it would not get any better."""
        for name, part in read_json(self._settings.processes_file).items():
            if "pid" in part:
                seen[name].add(part["pid"])
            if len(seen[name]) > PART_STARTS_MAX:
                raise StartFailed(self._where(f"the {name} ends as soon as it starts"))

    def _where(self, what: str) -> str:
        return f"{what}; see {self._settings.logs_folder}"

    def _is_ready(self) -> bool:
        parts = read_json(self._settings.processes_file)
        return bool(parts) and all(part.get("is_ready") for part in parts.values())

    def _write_running(self) -> None:
        running = {
            "settings": self._settings.model_dump(mode="json"),
            "started_at": datetime.now(UTC).isoformat(),
            "supervisor_pid": os.getpid(),
            "nats_server_pid": self._server.pid if self._server else None,
            "nats_server_restarts": self._server.restarts if self._server else 0,
            "disk_has_room": self._server.has_room if self._server else None,
            "runtime_pid": self._runtime.pid if self._runtime else None,
            "runtime_restarts": self.runtime_restarts,
            "ray_folder": str(self._ray_folder),
        }
        write_atomically(self._settings.running_file, orjson.dumps(running))

    async def stop(self) -> None:
        """Stop everything, by force where it does not end in time."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._stop_runtime()
        if self._server is not None:
            await self._server.stop(timeout_seconds=STOP_SECONDS_MAX)
        if self._lock is not None:
            self._settings.running_file.unlink(missing_ok=True)
            self._settings.processes_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    async def _stop_runtime(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None and runtime.returncode is None:
            with suppress(ProcessLookupError):
                runtime.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(runtime.wait(), STOP_SECONDS_MAX)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    runtime.kill()
                await runtime.wait()
        await asyncio.to_thread(self._end_ray, grace_seconds=GRACE_SECONDS)

    def _end_ray(self, *, grace_seconds: float) -> None:
        """End what Ray left behind, keep what it logged, remove its folder."""
        if self._ray_folder is None:
            return
        spared = [self._server.pid] if self._server else []
        end_descendants(except_for=spared, grace_seconds=grace_seconds)
        for logs in self._ray_folder.glob("session_2*/logs"):
            with suppress(OSError, shutil.Error):
                kept = self._settings.logs_folder / "ray" / logs.parent.name
                shutil.copytree(logs, kept, dirs_exist_ok=True)
        self._remove_ray_folder()

    def _remove_ray_folder(self) -> None:
        if self._ray_folder is not None:
            shutil.rmtree(self._ray_folder, ignore_errors=True)
            self._ray_folder = None


async def _ended(runtime: Process) -> int:
    """Wait until the runtime ends, or one of Ray's servers, without which it cannot go on.

    Ray itself would notice their end only after a minute.
    """
    servers: dict[str, psutil.Process] = {}
    while runtime.returncode is None:
        with suppress(TimeoutError):
            await asyncio.wait_for(runtime.wait(), LOOK_EVERY_SECONDS)
        if len(servers) < len(RAY_SERVERS):
            servers = children_named(runtime.pid, RAY_SERVERS)
        if not all(map(is_alive, servers.values())):
            with suppress(ProcessLookupError):
                runtime.kill()
    return runtime.returncode
