"""Watch that the log is still the one that was written (R3); while it is not, nothing is written.

Every process that appends or answers has one. It compares the log's shape, and the events that
marks, checkpoints and attestations name, at start, every few seconds, and before anything goes out
on a connection that it has not compared yet: a server that was restarted may have lost what it
held. What failed once stays failed until the process is started again. With the shape comes the
server's time: a process whose clock is another one's stores nothing until they agree again (R15).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog

from eventlog.errors import ClockDiffers, LogDamaged, LogError, LogUnavailable
from eventlog.marks import Mark
from eventlog.port import EventLog, Head, LogReader, Shape, Witness

CHECK_EVERY_SECONDS = 3.0
CLOCK_DIFFERENCE_MAX = timedelta(seconds=2)
UNREADABLE = "unreadable"
_log = structlog.get_logger()


class LogGuard:
    """Compare a log with what is known of it.

    `witnesses` gives what marks, checkpoints and attestations know now, or raises `LogDamaged`.
    `connection` numbers the connection that requests go out on now. Without a `mark` nothing that
    is acknowledged outlives the process.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        mark: Mark | None = None,
        witnesses: Callable[[], Iterable[Witness]] = tuple,
        connection: Callable[[], int] = lambda: 0,
    ) -> None:
        self._log = log
        self._mark = mark
        self._witnesses = witnesses
        self._connection = connection
        self._compared_on: int | None = None
        self._compared: set[Witness] = set()
        self._last_revision = 0
        self._faults: tuple[str, ...] = ()
        self._comparing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._condemned = asyncio.Event()
        self.own_clock: Callable[[], datetime | None] = lambda: None
        """The time by which this process dates what it stores; None while that is another's."""
        self._clock_difference = timedelta()

    @property
    def is_sound(self) -> bool:
        """Whether the log held at every comparison so far."""
        return not self._faults

    @property
    def faults(self) -> tuple[str, ...]:
        """What was wrong, as stable words; empty when nothing was."""
        return self._faults

    @property
    def has_right_time(self) -> bool:
        """Whether this process's clock agreed with the server's when they were last compared."""
        return self._clock_difference <= CLOCK_DIFFERENCE_MAX

    def status(self) -> dict[str, bool | list[str]]:
        """Say how the log stands, for a process's status."""
        return {
            "log_sound": self.is_sound,
            "log_faults": list(self._faults),
            "clock_agrees": self.has_right_time,
        }

    async def start(self) -> None:
        """Compare once, then go on in the background. Raises `LogUnavailable`."""
        await self.check()
        self._watching = asyncio.create_task(self._watch(), name="log-guard")

    async def close(self) -> None:
        """Stop comparing."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.close()

    async def admit(self) -> int:
        """Give the connection that was compared and may be written on; compare it if it is new.

        Raises `LogDamaged` where the log does not hold, `ClockDiffers` and `LogUnavailable`.
        """
        if self._compared_on != self._connection():
            async with self._comparing:
                if self._compared_on != self._connection():  # nobody did while this one waited
                    await self._check()
        self._require_sound()
        if not self.has_right_time:
            seconds = self._clock_difference.total_seconds()
            raise ClockDiffers(f"this machine's clock and the server's differ by {seconds:.1f} s")
        assert self._compared_on is not None
        return self._compared_on

    def note(self, head: Head) -> None:
        """Note an event that is about to be acknowledged: the log can never again be without it."""
        if self._mark is not None:
            self._mark.note(head.revision, head.digest)
        self._last_revision = max(self._last_revision, head.revision)

    def condemn(self, *faults: str) -> None:
        """Say that the log does not hold; it is never taken back."""
        if set(faults) <= set(self._faults):
            return
        _log.error("log_does_not_hold", faults=faults)
        self._faults = tuple(dict.fromkeys((*self._faults, *faults)))
        self._condemned.set()

    async def wait_condemned(self) -> None:
        """Wait until the log is found damaged."""
        await self._condemned.wait()

    async def check(self) -> None:
        """Compare now. Raises `LogUnavailable`."""
        async with self._comparing:
            await self._check()

    async def require_whole(self) -> None:
        """Compare now. Raises `LogDamaged` where the log does not hold, and `LogUnavailable`."""
        await self.check()
        self._require_sound()

    def _require_sound(self) -> None:
        if self._faults:
            raise LogDamaged(f"the log is not the one that was written: {', '.join(self._faults)}")

    async def _check(self) -> None:
        connection = self._connection()
        # Asked twice, because the leader may have changed between two questions.
        faults = await self._compare(connection) and await self._compare(connection)
        if faults:
            self.condemn(*faults)
        self._compared_on = connection

    async def _compare(self, connection: int) -> list[str]:
        if connection != self._compared_on:
            self._compared = set()
        noted = self._last_revision
        try:
            # Before the log is asked: what they know by now must be in it by then.
            witnesses = list(self._witnesses())
            shape = await self._timed_shape()
            faults = list(shape.faults)
            if shape.last_revision < noted:
                faults.append("acknowledged_events_lost")
            fresh = [witness for witness in witnesses if witness not in self._compared]
            faults += await contradictions(self._log, fresh, shape)
        except LogDamaged as error:
            _log.exception("log_not_comparable", reason=error.reason)
            return [UNREADABLE]
        except OSError as error:
            raise LogUnavailable("what is known beside the log cannot be read now") from error
        self._last_revision = max(self._last_revision, shape.last_revision)
        self._compared = set() if faults else set(witnesses)
        return list(dict.fromkeys(faults))

    async def _timed_shape(self) -> Shape:
        """Ask for the shape, and see how far the server's clock was from what this one showed."""
        before = self.own_clock()
        shape = await self._log.shape()
        after = self.own_clock()
        if before is None or after is None or shape.server_time is None:
            difference = timedelta()
        else:
            difference = max(before - shape.server_time, shape.server_time - after)
        agreed = self.has_right_time
        self._clock_difference = difference
        if agreed != self.has_right_time:
            seconds = round(difference.total_seconds(), 1)
            _log.warning("clock_compared", agrees=self.has_right_time, difference_seconds=seconds)
        return shape

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            try:
                await self.check()
            except LogError as error:
                _log.warning("log_not_compared", reason=error.reason)


async def contradictions(log: LogReader, witnesses: Iterable[Witness], shape: Shape) -> list[str]:
    """Name what witnesses say against a log of this shape. Raises `LogUnavailable`."""
    found = []
    for witness in witnesses:
        if not witness.revision:
            continue
        is_there = witness.revision <= shape.last_revision
        digest = await log.digest_at(witness.revision) if is_there else None
        if digest is None:
            found.append(f"{witness.source}_events_lost")
        elif digest != witness.digest:
            found.append(f"{witness.source}_event_replaced")
    return found
