"""The clock of the log, as one process knows it (R15): what is decided is recorded at its time.

The log's clock at a revision is the greatest recorded time up to it. A process stamps the later of
its own clock and what it knows of the log's; where the log's clock is manual, that one alone. Waits
and deadlines stay on the machine's clock.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from actors.clock import Clock
from domain.ids import CLOCK_STREAM
from domain.workspace_events import ClockAdvanced
from eventlog.errors import LogDamaged, LogError
from eventlog.port import Entry, EventLog

REFRESH_EVERY_SECONDS = 1.0
MANUAL_REFRESH_EVERY_SECONDS = 0.05
"""A manual clock is for development: whoever turns it waits for every process to know it."""

_START = datetime.min.replace(tzinfo=UTC)
_log = structlog.get_logger()


class LogClock:
    """Keep up with the clock of one workspace's log; one instance a process."""

    def __init__(self, log: EventLog, machine: Clock) -> None:
        self._log = log
        self._machine = machine
        self._known = _START
        self._is_manual = False
        self._following: asyncio.Task[None] | None = None

    @property
    def is_manual(self) -> bool:
        """Whether the log's clock is turned by hand."""
        return self._is_manual

    def now(self) -> datetime:
        """Give the machine's time, in UTC."""
        return self._machine.now()

    def new_id(self) -> str:
        """Make a UUIDv7, as canonical text."""
        return self._machine.new_id()

    def recorded_now(self) -> datetime:
        """Give the time at which what is decided now is recorded."""
        return self._known if self._is_manual else max(self._machine.now(), self._known)

    def arrival(self, received_at: datetime) -> datetime:
        """Give when a message came: by the queue's clock, or by the manual one."""
        return self._known if self._is_manual else received_at

    def note(self, recorded_at: datetime) -> None:
        """Learn that something in the log was recorded then."""
        self._known = max(self._known, recorded_at)

    async def start(self) -> None:
        """Read the log's clock, and go on reading it in the background. Raises `LogError`."""
        self._note_last(await last_entry(self._log))
        await self.refresh()
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop reading."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def refresh(self) -> None:
        """Read the last turn of the clock. Raises `LogError`."""
        entries = await self._log.last_entries([CLOCK_STREAM])
        self._note_last(entries.get(CLOCK_STREAM))

    def _note_last(self, entry: Entry | None) -> None:
        if entry is None:
            return
        if entry.event is None:
            if entry.stream == CLOCK_STREAM:
                raise LogDamaged("an event of the log's clock cannot be read")
            return
        self.note(entry.event.recorded_at)
        if isinstance(entry.event.body, ClockAdvanced):
            self.note(entry.event.body.to)
            self._is_manual = entry.event.body.is_manual

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(
                MANUAL_REFRESH_EVERY_SECONDS if self._is_manual else REFRESH_EVERY_SECONDS
            )
            try:
                await self.refresh()
            except LogError as error:
                _log.warning("clock_not_refreshed", reason=error.reason)


async def last_entry(log: EventLog) -> Entry | None:
    """Read the log's last event, of whatever stream; None where the log is empty."""
    shape = await log.shape()
    last: Entry | None = None
    if shape.last_revision:
        async for entries in log.read(after_revision=shape.last_revision - 1):
            last = entries[-1]
    return last
