"""Three nats-servers as one cluster, whose members a test may kill, pause and restart.

Ready means that all members know the same leader, who finds both others up to date.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi
from eventlog.server import EmbeddedServer, free_port
from tests.support.waiting import until_async

MEMBERS = 3
READY_SECONDS_MAX = 40.0
STARTS_MAX = 4

_CLUSTER = """\
cluster {{
  name: koseki
  listen: "127.0.0.1:{port}"
  routes: [{routes}]
}}
http: "127.0.0.1:{monitor}"
"""


class Member:
    """One server of a cluster."""

    def __init__(self, server: EmbeddedServer, monitor_port: int) -> None:
        self.server = server
        self._monitor_port = monitor_port
        self._pid = 0

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def url(self) -> str:
        return self.server.url

    async def start(self) -> None:
        """Start, also again after a kill: at the same addresses, with the same data."""
        await self.server.start()
        self._pid = self.server.pid

    async def kill(self) -> None:
        """Kill; it stays down."""
        os.kill(self._pid, signal.SIGKILL)
        await self.server.stop()

    def pause(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)

    async def stop(self) -> None:
        if self._pid:
            self.resume()
        await self.server.stop()

    async def meta(self) -> Mapping[str, Any]:
        """Ask what the member knows of the cluster's own leader; empty if it does not answer."""
        return await asyncio.to_thread(self._meta)

    def _meta(self) -> Mapping[str, Any]:
        try:
            with urlopen(f"http://127.0.0.1:{self._monitor_port}/jsz", timeout=1) as answer:
                found: Mapping[str, Any] = json.load(answer).get("meta_cluster") or {}
        except (URLError, OSError):
            return {}
        return found


class Cluster:
    """Three members; `members` in no order that means anything."""

    def __init__(self, folder: Path) -> None:
        routes = [free_port() for _ in range(MEMBERS)]
        urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.members = []
        for number, port in enumerate(routes, start=1):
            monitor = free_port()
            config = _CLUSTER.format(port=port, routes=urls, monitor=monitor)
            server = EmbeddedServer(folder / f"server-{number}", extra_config=config)
            self.members.append(Member(server, monitor))

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    async def start(self) -> None:
        starts = [member.start() for member in self.members]
        failures = await asyncio.gather(*starts, return_exceptions=True)
        for failure in failures:
            if failure is not None:
                raise failure
        await self.wait_ready()

    async def stop(self) -> None:
        await asyncio.gather(*(member.stop() for member in self.members))

    async def wait_ready(self) -> None:
        """Wait until the cluster's leader is known to all and finds all up to date."""
        await until_async(self._is_ready, timeout_seconds=READY_SECONDS_MAX)

    async def connect(
        self, first: Member | None = None, *, options: Mapping[str, Any] | None = None
    ) -> Connection:
        """Connect to all, in order from a given member."""
        start = self.members.index(first) if first else 0
        order = self.members[start:] + self.members[:start]
        return await Connection.open(
            [member.url for member in order],
            name=f"to-{order[0].name}",
            options={"dont_randomize": True, **(options or {})},
        )

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def others(self, *but: Member) -> Sequence[Member]:
        return [member for member in self.members if member not in but]

    async def leader_of(self, api: JetStreamApi, stream_name: str) -> Member:
        """Name the leader of a stream, once it has one."""
        found = ""

        async def is_found() -> bool:
            nonlocal found
            with suppress(LogUnavailable):
                info = await api.call(f"STREAM.INFO.{stream_name}", timeout_seconds=1)
                found = (info.get("cluster") or {}).get("leader") or ""
            return bool(found)

        await until_async(is_found, timeout_seconds=READY_SECONDS_MAX)
        return self.member(found)

    async def wait_current(self, api: JetStreamApi, stream_name: str) -> None:
        """Wait until every replica of a stream is up to date."""

        async def is_current() -> bool:
            with suppress(LogUnavailable):
                info = await api.call(f"STREAM.INFO.{stream_name}", timeout_seconds=1)
                replicas = info["cluster"].get("replicas") or []
                return len(replicas) == MEMBERS - 1 and all(r["current"] for r in replicas)
            return False

        await until_async(is_current, timeout_seconds=READY_SECONDS_MAX)

    async def _is_ready(self) -> bool:
        known = {member.name: await member.meta() for member in self.members}
        leaders = {meta.get("leader") for meta in known.values()}
        # Only the leader can tell how far the others are.
        replicas = known.get(next(iter(leaders)) or "", {}).get("replicas") or []
        is_one = len(leaders) == 1 and len(replicas) == MEMBERS - 1
        return is_one and all(replica["current"] for replica in replicas)


@asynccontextmanager
async def cluster_in(folder: Path) -> AsyncIterator[Cluster]:
    """Run a cluster with its data in a folder."""
    cluster = await _started(folder)
    try:
        yield cluster
    finally:
        await cluster.stop()


async def _started(folder: Path) -> Cluster:
    """Start a cluster; on other ports, where others took one of so many before it was bound."""
    for number in range(1, STARTS_MAX + 1):
        cluster = Cluster(folder / f"start-{number}")
        try:
            await cluster.start()
        except BaseException as failure:
            await cluster.stop()
            if not isinstance(failure, LogUnavailable) or number == STARTS_MAX:
                raise
        else:
            return cluster
    raise AssertionError
