"""Keeps one machine's installation alive: a nats-server, and the runtime that drives Ray.

`koseki up` and the demo run one. Whatever ends by itself is started again; on the way out all is
stopped, the runtime first, and nothing is left running. Children end when their parent is killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
import structlog

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.jetstream import JetStreamIntake
from app.processes import adopt_orphans, descendants, end_all
from app.settings import Settings, ensure_pepper, write_atomically
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer, free_port

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
"""A message too large for an event still arrives, so that it can be kept as a dead letter."""

READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 20.0
RESTART_WAIT_SECONDS = 0.5
_POLL_SECONDS = 0.1
_log = structlog.get_logger()


class StartFailed(Exception):
    """A part did not start; the message says which, and where its log is."""


class Supervisor:
    """Run an installation: `async with Supervisor(settings) as running: ...`."""

    def __init__(self, settings: Settings) -> None:
        settings.data.mkdir(parents=True, exist_ok=True)
        self._server = EmbeddedServer(
            settings.nats_folder,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            on_restart=lambda _restarts: self._write_running(),
        )
        self._settings = settings
        self._runtime: Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ray_folder: Path | None = None
        self.runtime_restarts = 0

    @property
    def settings(self) -> Settings:
        """The settings, with the addresses that were found free."""
        return self._settings

    @property
    def server(self) -> EmbeddedServer:
        """The embedded nats-server."""
        return self._server

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
        ensure_pepper(self._settings)
        self._settings.logs_folder.mkdir(parents=True, exist_ok=True)
        self._settings.processes_file.unlink(missing_ok=True)
        await self._server.start()
        self._settings = self._settings.model_copy(
            update={
                "nats_url": self._server.url,
                "nats_server_name": self._server.name,
                "grpc_port": self._settings.grpc_port or free_port(),
            }
        )
        await self._prepare_streams()
        await self._start_runtime()
        self._watcher = asyncio.create_task(self._keep_runtime(), name="keep-runtime")
        await self._until_ready()
        self._write_running()

    async def _prepare_streams(self) -> None:
        connection = await Connection.open(self._settings.nats_url, name="koseki-up")
        try:
            await connection.wait_for_server_name(self._server.name, timeout_seconds=10.0)
            log = JetStreamEventLog(connection, self._settings.workspace)
            await log.ensure_stream()
            workspace = self._settings.workspace
            await JetStreamIntake(connection, workspace=workspace).open_stream()
            await JetStreamDeadLetters(connection, workspace=workspace).open()
        finally:
            await connection.close()

    async def _start_runtime(self) -> None:
        self._remove_ray_folder()
        # Ray's sockets have paths of at most 107 bytes: the data folder may lie too deep for them.
        self._ray_folder = Path(tempfile.mkdtemp(prefix="koseki-ray-"))
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
            status = await self._runtime.wait()
            _log.error("runtime_ended", status=status)
            await asyncio.to_thread(self._end_ray)
            await asyncio.sleep(RESTART_WAIT_SECONDS)
            await self._start_runtime()
            self.runtime_restarts += 1
            self._write_running()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                while not self._is_ready():
                    if self.runtime_restarts:
                        raise StartFailed(self._where("Ray ended while it started"))
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise StartFailed(self._where("not every part answers")) from error

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
            "nats_server_pid": self._server.pid,
            "nats_server_restarts": self._server.restarts,
            "runtime_pid": self._runtime.pid if self._runtime else None,
            "runtime_restarts": self.runtime_restarts,
        }
        write_atomically(self._settings.running_file, orjson.dumps(running))

    async def stop(self) -> None:
        """Stop everything, by force where it does not end in time."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._stop_runtime()
        await self._server.stop(timeout_seconds=STOP_SECONDS_MAX)
        self._settings.running_file.unlink(missing_ok=True)
        self._settings.processes_file.unlink(missing_ok=True)

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
        await asyncio.to_thread(self._end_ray)

    def _end_ray(self) -> None:
        """End what Ray left behind, keep what it logged, remove its folder."""
        if self._ray_folder is None:
            return
        end_all(descendants(except_for=[self._server.pid]))
        for logs in self._ray_folder.glob("session_2*/logs"):
            with suppress(OSError, shutil.Error):
                kept = self._settings.logs_folder / "ray" / logs.parent.name
                shutil.copytree(logs, kept, dirs_exist_ok=True)
        self._remove_ray_folder()

    def _remove_ray_folder(self) -> None:
        if self._ray_folder is not None:
            shutil.rmtree(self._ray_folder, ignore_errors=True)
            self._ray_folder = None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty where there is none yet."""
    try:
        found = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
