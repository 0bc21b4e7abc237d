"""The fixture of the tests that need a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventlog.server import EmbeddedServer
from tests.intake.running import Intake, intake_on


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    async with intake_on(EmbeddedServer(tmp_path / "nats")) as found:
        yield found
