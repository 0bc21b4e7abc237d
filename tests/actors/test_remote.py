"""A component that fails ends its process, and not at once where it would fail again and again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from time import monotonic

import pytest

from actors.remote import PAUSE_SECONDS

PATIENCE_SECONDS = 60
STARTED = "started"
RUN = f"""
import time
from actors.remote import ComponentProcess
ComponentProcess("{__name__}:%s", b"", 0)
time.sleep({PATIENCE_SECONDS})
"""


class Ending:
    """Asks for a restart as soon as it runs, by an error or by its return."""

    def __init__(self, fault: Exception | None) -> None:
        self._fault = fault

    async def run(self) -> None:
        sys.stdout.write(f"{STARTED}\n")
        sys.stdout.flush()
        await asyncio.sleep(0)
        if self._fault is not None:
            raise self._fault


async def failing(_config: bytes, _number: int) -> Ending:
    return Ending(ValueError("it always fails"))


async def returning(_config: bytes, _number: int) -> Ending:
    return Ending(None)


def seconds_to_its_end(factory: str) -> float:
    """Run a component; give how long its process lived after it had run."""
    command = [sys.executable, "-c", RUN % factory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != STARTED:
            assert process.poll() is None
        begun = monotonic()
        assert process.wait(PATIENCE_SECONDS) == 1
        return monotonic() - begun


@pytest.mark.parametrize("factory", ["failing", "returning"])
def test_what_fails_at_each_start_is_not_started_at_once(factory: str) -> None:
    waits = seconds_to_its_end(factory) >= PAUSE_SECONDS
    assert waits == (factory == "failing")
