"""The configuration in `deploy/nats`, run by real servers, and connections in its roles."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

from eventlog.connection import Connection
from eventlog.server import _LAUNCHER, _name_at, find_binary, free_port
from tests.support.waiting import until_async

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "nats"
WORKSPACE = "shop"
ROLES = ("publisher", "host", "reader", "gateway", "worker", "steward", "operator")
STARTS_MAX = 4


class Roles:
    """Connections to servers of the shipped configuration, one for each role."""

    def __init__(
        self, urls: Sequence[str], passwords: dict[str, str], processes: Sequence[Process] = ()
    ) -> None:
        self.urls = urls
        self.passwords = passwords
        self._processes = processes
        self._open: list[Connection] = []

    async def connect(self, role: str, *, to: str | None = None) -> Connection:
        """Connect to any of the servers, or to the one of a name."""
        options = {"user": f"{WORKSPACE}-{role}", "password": self.passwords[role]}
        if role != "operator":
            options["inbox_prefix"] = f"_INBOX_{role}"
        urls = [self.urls[self._names.index(to)]] if to else self.urls
        connection = await Connection.open(urls, name=role, options=options)
        self._open.append(connection)
        return connection

    def write_credentials(self, file: Path, *, but: str = "") -> None:
        """Write them as `koseki up` reads them; without one role."""
        tables = (
            f'[{role}]\nuser = "{WORKSPACE}-{role}"\npassword = "{password}"\n'
            for role, password in self.passwords.items()
            if role != but
        )
        file.write_text("\n".join(tables), encoding="utf-8")

    async def kill(self, name: str) -> None:
        """Kill the server of a name; it stays down."""
        await _end_all([self._processes[self._names.index(name)]])

    def pause(self, name: str) -> None:
        """Let the server of a name stand still."""
        self._processes[self._names.index(name)].send_signal(signal.SIGSTOP)

    @property
    def _names(self) -> list[str]:
        return [f"nats-{url.rpartition(':')[2]}" for url in self.urls]

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._open))


@asynccontextmanager
async def shipped_servers(folder: Path, *, servers: int) -> AsyncIterator[Roles]:
    """Run so many servers on `server.conf` as it is; one alone is no cluster."""
    passwords = {role: f"p-{uuid4().hex}" for role in ROLES}
    environment = {f"{WORKSPACE}_{role}_password": word for role, word in passwords.items()}
    config = _config(folder, is_cluster=servers > 1)
    for _ in range(STARTS_MAX):
        ports = [free_port() for _ in range(servers)]
        processes = await _start_all(config, environment, ports)
        if await _all_listen(processes, ports):
            break
        await _end_all(processes)  # others took one of the ports before it was bound
    roles = Roles([f"nats://127.0.0.1:{port}" for port in ports], passwords, processes)
    try:
        yield roles
    finally:
        await roles.close()
        await _end_all(processes)


async def _start_all(
    config: Path, environment: dict[str, str], ports: Sequence[int]
) -> list[Process]:
    routes = [f"127.0.0.1:{free_port()}" for _ in ports]
    processes = []
    for number, (port, route) in enumerate(zip(ports, routes, strict=True), start=1):
        own = {
            "KOSEKI_NATS_NAME": f"nats-{port}",
            "KOSEKI_NATS_LISTEN": f"127.0.0.1:{port}",
            "KOSEKI_NATS_ROUTES_LISTEN": route,
            "KOSEKI_NATS_ROUTES": f"[{', '.join(f'nats://{other}' for other in routes)}]",
            "KOSEKI_NATS_STORE": str(config.parent / f"store-{number}"),
            "KOSEKI_NATS_SYSTEM_PASSWORD": uuid4().hex,
        }
        processes.append(await _start(config, environment | own))
    return processes


async def _all_listen(processes: Sequence[Process], ports: Sequence[int]) -> bool:
    """Wait until all listen; false if one of them ends instead."""

    async def is_settled() -> bool:
        if any(process.returncode is not None for process in processes):
            return True
        return [await _name_at(port) for port in ports] == [f"nats-{port}" for port in ports]

    await until_async(is_settled)
    return all(process.returncode is None for process in processes)


async def _end_all(processes: Sequence[Process]) -> None:
    for process in processes:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


def _config(folder: Path, *, is_cluster: bool) -> Path:
    """Copy the shipped files; only the routes go where there is one server."""
    folder.mkdir(parents=True, exist_ok=True)
    server = (FOLDER / "server.conf").read_text(encoding="utf-8")
    if not is_cluster:
        server, cut = re.subn(r"^cluster \{.*?^\}", "", server, flags=re.DOTALL | re.MULTILINE)
        assert cut == 1
    (folder / "server.conf").write_text(server, encoding="utf-8")
    workspace = (FOLDER / "workspace.conf").read_text(encoding="utf-8")
    (folder / "workspace.conf").write_text(workspace, encoding="utf-8")
    return folder / "server.conf"


async def _start(config: Path, environment: dict[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _LAUNCHER,
        str(os.getpid()),
        str(find_binary()),
        "--config",
        str(config),
        env=os.environ | environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
