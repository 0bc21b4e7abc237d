from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from eventlog.server import EmbeddedServer
from tests.eventlog_recorder.reading import until
from tests.eventlog_recorder.servers import Servers
from tests.support.nats import connection, nats_server, own_server

__all__ = ["connection", "nats_server", "own_server"]


@pytest.fixture(scope="session", autouse=True)
def servers(request: pytest.FixtureRequest) -> None:
    """Run a server for these tests, unless the environment names some."""
    if not Servers.url:
        server: EmbeddedServer = request.getfixturevalue("nats_server")
        Servers.url = server.url


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Require of every test that the threads of its recorders are gone."""
    before = set(threading.enumerate())
    yield
    until(lambda: not _left(before))  # the library's cases do not join all of theirs


def _left(before: set[threading.Thread]) -> list[threading.Thread]:
    threads = [t for t in threading.enumerate() if t not in before and t.is_alive()]
    return [t for t in threads if not t.name.startswith("asyncio")]
