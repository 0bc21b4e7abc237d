"""Fixtures: a cluster shared by the tests that leave its members alone, and one of a test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from eventlog.connection import Connection
from tests.support.cluster import Cluster, cluster_in


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def own_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def connection(cluster: Cluster) -> AsyncIterator[Connection]:
    connection = await cluster.connect()
    yield connection
    await connection.close()
