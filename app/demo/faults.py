"""Kill processes with SIGKILL while signals are unacknowledged, and see them come back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from actors.intake.jetstream import JetStreamIntake
from actors.intake.port import QueueStats
from app.settings import Settings, read_json
from eventlog.errors import LogError

LOOK_EVERY_SECONDS = 0.01
PAUSE_SECONDS = 0.1
IN_FLIGHT_LEAST = 10
BACK_SECONDS_MAX = 60.0
IN_FLIGHT_SECONDS_MAX = 30.0
KINDS = ("ingest_worker", "host", "projector", "server")


@dataclass(slots=True)
class FaultReport:
    """How often what was killed, and how many signals were unacknowledged at each kill."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    in_flight: list[int] = field(default_factory=list)


class FaultMaker:
    """Kill an ingest worker, a host, the projector or the nats-server."""

    def __init__(
        self, settings: Settings, intake: JetStreamIntake, *, server_pid: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._server_pid = server_pid
        self.report = FaultReport()

    async def kill(self, kind: str) -> None:
        """Kill one of `KINDS` while signals are in flight, and see it replaced."""
        pid = self._pid_of(kind)
        async with asyncio.timeout(IN_FLIGHT_SECONDS_MAX):
            if kind == "ingest_worker":
                unacknowledged = await self._pause_with_signals(pid)
            else:
                unacknowledged = await self._until_in_flight()
        os.kill(pid, signal.SIGKILL)
        self.report.kills[kind] += 1
        self.report.in_flight.append(unacknowledged)
        await self._until_replaced(kind, pid)

    async def _pause_with_signals(self, pid: int) -> int:
        """Pause a worker that surely holds signals, so that they must be delivered again."""
        while True:
            await self._until_in_flight()
            os.kill(pid, signal.SIGSTOP)
            # What it acknowledged before the pause is counted by then.
            await asyncio.sleep(PAUSE_SECONDS)
            held = await self._until_in_flight(at_least=0)
            if held:
                return held
            os.kill(pid, signal.SIGCONT)

    async def _until_in_flight(self, *, at_least: int = IN_FLIGHT_LEAST) -> int:
        """Wait until a worker holds so many signals unacknowledged; say how many."""
        while True:
            with suppress(LogError):
                held = (await self._intake.stats()).ack_pending
                if held >= at_least:
                    return held
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _pid_of(self, kind: str) -> int:
        if kind == "server":
            return self._server_pid()
        name = "host-0" if kind == "host" else kind.replace("_", "-")
        return int(read_json(self._settings.processes_file)[name]["pid"])

    async def _until_replaced(self, kind: str, pid: int) -> None:
        async with asyncio.timeout(BACK_SECONDS_MAX):
            while True:
                with suppress(KeyError):  # What is being restarted does not say its id.
                    if self._pid_of(kind) != pid:
                        return
                await asyncio.sleep(LOOK_EVERY_SECONDS)


def waiting(stats: QueueStats) -> int:
    """Count the messages that are not acknowledged yet."""
    return stats.pending + stats.ack_pending
