"""Fixtures of the gateway's tests: one over a log in memory, one over JetStream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from eventlog.jetstream import JetStreamEventLog
from eventlog.memory import MemoryEventLog
from tests.services.edge import Edge, edge_over
from tests.support.nats import connection, jetstream_log, nats_server, own_server

__all__ = ["connection", "jetstream_log", "nats_server", "own_server"]


@pytest_asyncio.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Serve a workspace with its rules defined, over a log in memory."""
    async with edge_over(MemoryEventLog("test"), tmp_path / "read-side") as edge:
        await edge.define_rules()
        yield edge


@pytest_asyncio.fixture
async def jetstream_edge(jetstream_log: JetStreamEventLog, tmp_path: Path) -> AsyncIterator[Edge]:
    """Serve a workspace with its rules defined, over JetStream."""
    async with edge_over(jetstream_log, tmp_path / "read-side") as edge:
        await edge.define_rules()
        yield edge
