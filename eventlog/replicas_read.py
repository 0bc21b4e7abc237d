"""Which servers a log was read from, and what each of them did not give.

The server decides which replica a consumer reads. A read that finds a gap goes on with another
consumer, so one read may come from several replicas, and hold where one of them lacks something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

RANGES_MAX = 1_000
"""Ranges that are kept of one server; the first ones."""

Range = tuple[int, int]
"""A first and a last revision."""


class ReplicaRead(NamedTuple):
    """A server that was read, its role in the stream, and the ranges that it did not give."""

    server: str
    role: Literal["leader", "follower", "only"]
    lacking: tuple[Range, ...]


class ReplicasRead:
    """What readers of one log note of the servers that they read."""

    def __init__(self) -> None:
        self._lacking: dict[str, list[Range]] = {}
        self.last = ""
        """The server that was read last; nothing where there is but one."""

    @property
    def lacking(self) -> Mapping[str, Sequence[Range]]:
        """What each server did not give, in the order in which they were first read."""
        return self._lacking

    def note(self, server: str) -> None:
        """Note that a server is read from now on."""
        self.last = server
        self._lacking.setdefault(server, [])

    def lack(self, first: int, last: int) -> None:
        """Note revisions that the server which is read now did not give, though others followed."""
        ranges = self._lacking.setdefault(self.last, [])
        if (first, last) not in ranges and len(ranges) < RANGES_MAX:
            ranges.append((first, last))


def ranges_of(revisions: Iterable[int]) -> list[Range]:
    """Give distinct revisions as ranges, in order."""
    ranges: list[Range] = []
    for revision in sorted(revisions):
        if ranges and ranges[-1][1] == revision - 1:
            ranges[-1] = (ranges[-1][0], revision)
        else:
            ranges.append((revision, revision))
    return ranges
