"""One installation for the run: to start one takes ten seconds on two cores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from eventlog.connection import Connection
from tests.e2e.installation import Caller, Installation, installed


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Run `koseki up`; tests keep apart by whom they write about."""
    with installed(tmp_path_factory.mktemp("e2e") / "data") as running:
        yield running


@pytest_asyncio.fixture
async def caller(installation: Installation) -> AsyncIterator[Caller]:
    """Call its services; its rules are those of the demo."""
    caller = Caller(installation)
    await caller.define_rules()
    yield caller
    await caller.channel.close()


@pytest_asyncio.fixture
async def connection(installation: Installation) -> AsyncIterator[Connection]:
    """Connect to its nats-server, as a publisher would."""
    connection = await Connection.open(installation.where["nats"], name="test")
    yield connection
    await connection.close()
