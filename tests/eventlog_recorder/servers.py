"""The server that the library's cases run against, and the environment that names it.

`KOSEKI_TEST_NATS_URL` and `KOSEKI_TEST_REPLICAS` put servers that are already running in its place,
such as a cluster of three.
"""

from __future__ import annotations

import os
from uuid import uuid4

from eventsourcing.utils import Environment

from eventlog.connection import Connection
from eventlog.recorder.factory import JetStreamFactory

MODULE = "eventlog.recorder.factory"
OUTER_URL = "KOSEKI_TEST_NATS_URL"
OUTER_REPLICAS = "KOSEKI_TEST_REPLICAS"


class Servers:
    """Where the tests of this folder find NATS; the conftest fills it in."""

    url = os.environ.get(OUTER_URL, "")
    replicas = os.environ.get(OUTER_REPLICAS, "1")

    @classmethod
    async def connect(cls, url: str = "") -> Connection:
        """Connect to them, or to a server of the test's own."""
        return await Connection.open((url or cls.url).split(","), name="test")


def new_application() -> str:
    """Name an application that no other test uses."""
    return f"App{uuid4().hex[:16]}"


def variables(**changes: str) -> dict[str, str]:
    """Give the environment of an application with a fresh log."""
    found = {
        "PERSISTENCE_MODULE": MODULE,
        "KOSEKI_NATS_URL": Servers.url,
        "KOSEKI_REPLICAS": Servers.replicas,
        "KOSEKI_APPLICATION": new_application(),
    }
    return {name: value for name, value in (found | changes).items() if value}


def factory(**changes: str) -> JetStreamFactory:
    """Make a factory; close it after use."""
    return JetStreamFactory(Environment("Test", variables(**changes)))
