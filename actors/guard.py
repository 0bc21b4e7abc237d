"""Watch the shape of the log (R3). While it does not hold, nothing is written, no yes is given."""

from __future__ import annotations

import asyncio

import structlog

from eventlog.errors import LogDamaged, LogError
from eventlog.port import EventLog

CHECK_EVERY_SECONDS = 3.0
_log = structlog.get_logger()


class LogGuard:
    """Check the shape at start and every few seconds; a shape that failed once stays failed."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._last_revision = 0
        self._faults: tuple[str, ...] = ()
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the shape held at every check so far."""
        return not self._faults

    @property
    def faults(self) -> tuple[str, ...]:
        """What was wrong with the shape; empty when nothing was."""
        return self._faults

    def note(self, revision: int) -> None:
        """Remember an acknowledged revision: the log can never again end before it."""
        self._last_revision = max(self._last_revision, revision)

    async def start(self) -> None:
        """Check once, then go on in the background. Raises `LogError`."""
        await self.check()
        if not self.is_sound:
            raise LogDamaged(f"the shape of the log does not hold: {', '.join(self._faults)}")
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop checking."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def check(self) -> None:
        """Check the shape now. Raises `LogError`."""
        noted = self._last_revision
        shape = await self._log.shape()
        faults = list(shape.faults)
        if shape.last_revision < noted:
            faults.append("acknowledged_events_lost")
        self.note(shape.last_revision)
        if faults:
            _log.error("log_shape_failed", faults=faults, last_revision=shape.last_revision)
            self._faults = tuple(dict.fromkeys((*self._faults, *faults)))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            try:
                await self.check()
            except LogDamaged as error:
                _log.exception("log_shape_failed", reason=error.reason)
                self._faults = tuple(dict.fromkeys((*self._faults, "unreadable")))
            except LogError as error:
                _log.warning("log_shape_not_checked", reason=error.reason)
