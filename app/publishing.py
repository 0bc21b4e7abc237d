"""Tells the outside what the journal of changes holds: a duty of the steward.

The read side decides what is told and the out stream how far it was told, so there is nothing to
remember: killed anywhere, or doubled, it tells every change once and in order. A read side that is
behind what was told (made anew, or one of several) is waited for: places are the same in each.
"""

from __future__ import annotations

import asyncio
from itertools import islice

import structlog

from app.closed import NOTHING_LOST, AcceptedLosses
from app.out_messages import OutWriter
from eventlog.out_stream import BATCH_CHANGES_MAX, OutEnd, OutMessage, OutMoved, OutStream
from projections.clock import read_clock
from projections.instants import instant_text
from projections.segments.journal import (
    Position,
    behind,
    everything_after,
    is_kept_after,
    oldest_kept,
    read_position,
)
from projections.store import Store

JOURNAL_ROWS_MAX = 2_000
"""Rows that are looked at in one snapshot."""

_log = structlog.get_logger()


class OutPublisher:
    """Publish the changes of one workspace."""

    def __init__(
        self,
        out: OutStream,
        store: Store,
        *,
        workspace: str,
        losses: AcceptedLosses = NOTHING_LOST,
    ) -> None:
        self._out = out
        self._store = store
        self._workspace = workspace
        self._losses = losses
        self._end: OutEnd | None = None
        self._looked_at = Position(0, 0)

    async def do(self) -> None:
        """Tell all that is not told yet. Raises `LogUnavailable` or `ReadSideError`."""
        while await self._step():
            pass

    async def _step(self) -> bool:
        """Tell some; whether there may be more."""
        if self._end is None:
            self._end = await self._out.end()
            self._looked_at = self._begin(self._end)
        messages, looked_at, is_more = await asyncio.to_thread(self._read, self._end)
        for first in range(0, len(messages), BATCH_CHANGES_MAX):
            await self._append(messages[first : first + BATCH_CHANGES_MAX])
        self._looked_at = looked_at
        return is_more

    async def _append(self, messages: list[OutMessage]) -> None:
        assert self._end is not None
        try:
            sequence = await self._out.append(messages, after=self._end.sequence)
        except BaseException as error:
            self._end = None  # it may be stored, or another publisher told: look again
            if isinstance(error, OutMoved):
                _log.info("out_stream_moved")
            raise
        self._end = OutEnd(sequence, messages[-1].position, messages[-1].losses)

    def _begin(self, end: OutEnd) -> Position:
        if end.sequence == 0:
            return Position(0, 0)
        if end.position is None:
            # A stream that was emptied does not say what it held: told again would be twice.
            with self._store.snapshot() as tables:
                return behind(tables.checkpoint.revision)
        told = read_position(end.position)
        # The revisions behind the end that the log had then were given out again.
        return min(told, behind(self._losses.last_revision)) if self._is_gap(end) else told

    def _is_gap(self, end: OutEnd) -> bool:
        """Say whether what was told before is unknown, or was told of a log that lost events."""
        return end.sequence > 0 and (end.position is None or end.losses < self._losses.times)

    def _read(self, end: OutEnd) -> tuple[list[OutMessage], Position, bool]:
        """Write what comes next; give also how far that looked, and whether there is more."""
        with self._store.snapshot() as tables:
            writer = OutWriter(tables, self._workspace, losses=self._losses.times)
            now, after = tables.checkpoint.revision, self._looked_at
            if now < after.revision:
                return [], after, False
            messages: list[OutMessage] = []
            if self._is_gap(end) or not is_kept_after(max(after.revision - 1, 0), now=now):
                after = max(after, oldest_kept(now))
                _log.error("changes_not_told", until_revision=after.revision)
                messages.append(writer.gap(after, instant_text(read_clock(tables))))
            rows = list(islice(everything_after(tables, after), JOURNAL_ROWS_MAX))
            written = [writer.message(position, change) for position, change in rows]
        messages += [message for message in written if message is not None]
        is_more = len(rows) == JOURNAL_ROWS_MAX
        return messages, rows[-1][0] if is_more else behind(now), is_more
