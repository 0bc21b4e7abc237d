"""A gRPC gateway, as a process runs it."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.log_clock import LogClock
from eventlog.guard import LogGuard
from services.server import GatewayServer


class GatewayComponent:
    """Serve until closed, or until the process ends."""

    def __init__(self, server: GatewayServer, clock: LogClock, guard: LogGuard) -> None:
        self._server = server
        self._clock = clock
        self._guard = guard
        self._is_closed = False

    async def run(self) -> None:
        """Serve; once closed, wait for the end: to return would ask for a restart."""
        await self._server.start()
        reporting = asyncio.create_task(self._report_damage())
        try:
            await self._server.wait()
            if self._is_closed:
                await asyncio.Event().wait()
        finally:
            reporting.cancel()

    async def close(self) -> None:
        """Take no more calls, and give those under way a moment."""
        self._is_closed = True
        await self._server.stop()

    async def _report_damage(self) -> None:
        await self._guard.wait_condemned()
        await self._server.report_damage()

    async def status(self) -> dict[str, Any]:
        """Say that the gateway is there, and what time it is."""
        clock = self._clock.recorded_now().isoformat()
        return {"is_ready": True, "clock": clock, **self._guard.status()}
