from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.server import EmbeddedServer, find_binary
from tests.support.nats import connect
from tests.support.waiting import until

_PARENT = """
import asyncio, sys
from pathlib import Path
from eventlog.server import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_crashed_server_comes_back_at_the_same_address(tmp_path: Path) -> None:
    heard: list[int] = []
    server = EmbeddedServer(tmp_path, on_restart=heard.append)
    await server.start()
    url, pid = server.url, server.pid
    for kills in (1, 2):
        await server.kill()
        await server.wait_ready(timeout_seconds=20)
        assert server.restarts == kills
    assert server.url == url
    assert server.pid != pid
    assert heard == [1, 2]
    await (await connect(server)).close()
    await server.stop()
    assert not psutil.pid_exists(pid)


async def test_a_stopped_server_stays_down_and_lets_go_of_its_folder(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    await server.start()
    pid = server.pid
    await server.stop()
    assert not psutil.pid_exists(pid)
    assert not server.is_ready
    again = EmbeddedServer(tmp_path)
    await again.start()
    await again.stop()


async def test_a_server_that_does_not_listen_to_reason_is_killed(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    await server.stop(timeout_seconds=0.1)
    assert not psutil.pid_exists(pid)


async def test_a_folder_serves_one_server_at_a_time(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    await server.start()
    with pytest.raises(LogUnavailable, match="data folder"):
        await EmbeddedServer(tmp_path, start_timeout_seconds=0.2).start()
    assert server.is_ready
    await server.stop()


async def test_a_server_dies_with_its_parent_and_holds_the_folder_until_then(
    tmp_path: Path,
) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(  # noqa: ASYNC220  # it must be killed from outside its loop
        [sys.executable, "-c", _PARENT, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    with pytest.raises(LogUnavailable, match="data folder"):
        await EmbeddedServer(tmp_path, start_timeout_seconds=0.2).start()
    os.kill(pid, signal.SIGCONT)
    await until(lambda: not psutil.pid_exists(pid) or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    """Tell a process that ended but whom nobody has asked for its status."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_configuration_that_the_server_refuses_is_told(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, extra_config="no_such_option: 1")
    with pytest.raises(LogUnavailable, match=r"nats-server\.log"):
        await server.start()


async def test_extra_configuration_is_taken(tmp_path: Path) -> None:
    server = EmbeddedServer(
        tmp_path, extra_config='mappings { "in.*": "out.{{wildcard(1)}}" }', max_payload_bytes=4_096
    )
    await server.start()
    connection = await Connection.open(server.url)
    heard: list[str] = []

    def hear(message: object) -> None:
        heard.append(getattr(message, "subject", ""))

    await connection.subscribe("out.a", hear)
    await connection.publish("in.a")
    await until(lambda: heard == ["out.a"])
    assert connection.payload_bytes_max == 4_096
    await connection.close()
    await server.stop()


def test_the_binary_is_the_wheels() -> None:
    assert find_binary().parent == Path(sys.executable).parent
