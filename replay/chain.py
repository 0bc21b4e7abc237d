"""Checks of a log read from its start: revisions, versions and the chain of each stream (R3).

Called by every replay, batch by batch. An event whose envelope cannot be read has no version of its
own; its place in the order is still checked, and the next event of its stream must name its digest.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.ids import Stream
from eventlog.errors import LogDamaged
from eventlog.port import EMPTY, Entry, Head

UNREADABLE_VERSION = 0


class ChainCheck:
    """The heads of all streams as of the last entry checked."""

    def __init__(self) -> None:
        self._heads: dict[Stream, Head] = {}
        self._revision = 0

    @property
    def streams(self) -> int:
        """How many streams have events."""
        return len(self._heads)

    def check(self, entries: Sequence[Entry]) -> None:
        """Require that entries continue the log; `LogDamaged` names the first that does not."""
        for entry in entries:
            self._check_entry(entry)

    def _check_entry(self, entry: Entry) -> None:
        if entry.revision != self._revision + 1:
            raise LogDamaged(f"revision {entry.revision} stands where {self._revision + 1} should")
        self._revision = entry.revision
        head = self._heads.get(entry.stream, EMPTY)
        place = f"revision {entry.revision} of a {entry.stream.kind} stream"
        version = head.version + 1
        if entry.event is not None or entry.version != UNREADABLE_VERSION:
            if entry.version != version:
                raise LogDamaged(f"{place} has version {entry.version}, not {version}")
            if entry.previous != head.digest:
                raise LogDamaged(f"{place} does not follow the event before it")
        self._heads[entry.stream] = Head(entry.revision, version, entry.digest)
