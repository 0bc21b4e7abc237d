"""The process that drives Ray: starts it, puts every part on it, and watches until told to stop.

Started by the supervisor as `python -m app.runtime SETTINGS FOLDER`: the settings as JSON, and an
empty folder for Ray. When Ray itself fails, it ends, and the supervisor starts it anew: everything
that matters is in the log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from app.ray_environment import RAY_ENVIRONMENT

os.environ.update(RAY_ENVIRONMENT)

import orjson  # Ray reads its environment when it is imported, below

from actors.remote import (
    ComponentProcess,
    HostProcess,
    Part,
    host_name,
    start_part,
    start_ray,
    stop_ray,
)
from app.logs import configure_logs
from app.processes import adopt_orphans, end_descendants, end_with_parent
from app.settings import Settings, write_atomically

STATUS_EVERY_SECONDS = 0.5
STATUS_SECONDS_MAX = 10.0
SILENT_ROUNDS_MAX = 3
CLOSE_SECONDS_MAX = 4.0
"""Within which gateways answer what they have under way, when everything is to end."""


def start_parts(settings: Settings) -> list[Part]:
    """Start every part of the installation; Ray restarts each of them for ever."""
    config = settings.to_bytes()
    parts = [
        start_part(
            HostProcess,
            f"host-{number}",
            actor_name=host_name(settings.workspace, number),
            factory="app.bootstrap:build_host",
            config=config,
            number=number,
        )
        for number in range(settings.hosts)
    ]
    components = {
        "projector": ("app.bootstrap:build_projector", settings.projectors),
        "steward": ("app.stewarding:build_steward", 1),
        "ingest-worker": ("app.bootstrap:build_ingest_worker", settings.ingest_workers),
        "gateway": ("app.bootstrap:build_gateway", settings.gateways),
    }
    for kind, (factory, how_many) in components.items():
        for number in range(how_many):
            name = kind if how_many == 1 else f"{kind}-{number}"
            part = start_part(
                ComponentProcess,
                name,
                actor_name=f"{settings.workspace}/{name}",
                factory=factory,
                config=config,
                number=number,
            )
            parts.append(part)
    return parts


class Watch:
    """Ask every part how it is, and write down what it says, until told to stop."""

    def __init__(self, settings: Settings, parts: list[Part]) -> None:
        self._settings = settings
        self._parts = parts
        self._stopping = asyncio.Event()
        self._silent_rounds = 0

    async def run(self) -> None:
        """Watch until told to stop, then have the parts close.

        Raises `RuntimeError` when no part has answered for several rounds.
        """
        self._stop_on_signals(asyncio.get_running_loop())
        while not self._stopping.is_set():
            answers = dict(await asyncio.gather(*(self._ask(part) for part in self._parts)))
            write_atomically(self._settings.processes_file, orjson.dumps(answers))
            self._count_silence(answers)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), STATUS_EVERY_SECONDS)
        await asyncio.gather(*(p.close(timeout_seconds=CLOSE_SECONDS_MAX) for p in self._parts))

    def _stop_on_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop on SIGTERM, however often it comes: a parent's end sends it once a thread.

        The loop's own handlers would end with the loop, and leave the process to die half-way.
        """

        def stop(_number: int, _frame: object) -> None:
            with suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(self._stopping.set)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    async def _ask(self, part: Part) -> tuple[str, dict[str, Any]]:
        return part.name, await part.status(timeout_seconds=STATUS_SECONDS_MAX)

    def _count_silence(self, answers: dict[str, dict[str, Any]]) -> None:
        is_silent = all("fault" in answer for answer in answers.values())
        self._silent_rounds = self._silent_rounds + 1 if is_silent else 0
        if self._silent_rounds >= SILENT_ROUNDS_MAX:
            raise RuntimeError("no part answers: Ray is gone")


def main() -> None:
    """Run until SIGTERM; exit status 1 asks for a new start."""
    configure_logs()
    settings = Settings.from_bytes(sys.argv[1].encode())
    end_with_parent()
    adopt_orphans()
    try:
        start_ray(sys.argv[2])
        asyncio.run(Watch(settings, start_parts(settings)).run())
    finally:
        try:
            stop_ray()
        finally:  # Ray leaves its agents to end by themselves, which may take them a minute
            end_descendants()


if __name__ == "__main__":
    main()
