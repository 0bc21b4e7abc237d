"""The workspace's steward: what somebody must do now and then, whoever asks for it or not.

Each duty runs alone, again and again; one that fails is tried again later and stops no other.
Several stewards do no harm: a duty guards what it writes by the log's expectations (R1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from actors.faults import describe

DUTY_SECONDS_MAX = 600.0
RETRY_SECONDS_MIN = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do, and how long to rest between two times."""

    name: str
    every_seconds: float
    do: Callable[[], Awaitable[None]]


class Steward:
    """See to the duties of one workspace."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._duties = tuple(duties)
        self._done = dict.fromkeys((duty.name for duty in duties), 0)
        self._failed = dict(self._done)

    def status(self) -> dict[str, dict[str, int]]:
        """Say how often each duty was done, and how often it failed."""
        return {
            name: {"done": done, "failed": self._failed[name]} for name, done in self._done.items()
        }

    async def run(self) -> None:
        """See to every duty for ever."""
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._see_to(duty), name=duty.name)

    async def _see_to(self, duty: Duty) -> None:
        while True:
            rest = duty.every_seconds
            try:
                async with asyncio.timeout(DUTY_SECONDS_MAX):
                    await duty.do()
                self._done[duty.name] += 1
            except Exception as error:  # noqa: BLE001  # or one duty's fault would end all others
                self._failed[duty.name] += 1
                _log.error("duty_failed", duty=duty.name, **describe(error))
                rest = max(rest, RETRY_SECONDS_MIN)
            await asyncio.sleep(rest)
