"""The workspace's own stream, of which every past state is made: loaded once, then what is new.

It grows with each definition of a segment, and is the same for everybody. Whoever answers one
question after the other keeps it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.ids import WORKSPACE_STREAM, Stream
from eventlog.errors import LogDamaged
from eventlog.port import EMPTY, Entry, Head, LogReader

EVENTS_KEPT_MAX = 20_000
"""Of a longer stream nothing is kept."""


class WorkspaceStreamKept:
    """Loads streams as a log does, that of the workspace after what was loaded of it before."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._kept: list[Entry] = []

    async def load_many(self, streams: Mapping[Stream, Head]) -> dict[Stream, list[Entry]]:
        """Load several streams, each after its head. Raises `LogUnavailable`, `LogDamaged`."""
        if streams.get(WORKSPACE_STREAM) != EMPTY:
            return await self._log.load_many(streams)
        try:
            loaded = await self._load_after_kept(streams)
        except LogDamaged:
            if not self._kept:
                raise
            self._kept = []  # the log may have been cut, and reopened without its end
            loaded = await self._load_after_kept(streams)
        whole = loaded[WORKSPACE_STREAM]
        self._kept = whole if len(whole) <= EVENTS_KEPT_MAX else []
        return loaded

    async def _load_after_kept(self, streams: Mapping[Stream, Head]) -> dict[Stream, list[Entry]]:
        kept = self._kept
        if not kept:
            return await self._log.load_many(streams)
        after = {**streams, WORKSPACE_STREAM: kept[-1].head}
        loaded = await self._log.load_many(after, recheck=[WORKSPACE_STREAM])
        return {**loaded, WORKSPACE_STREAM: [*kept, *loaded[WORKSPACE_STREAM]]}
