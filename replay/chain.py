"""Checks of a log read from its start: revisions, versions and the chain of each stream (R3).

Called by every replay, batch by batch. An event whose envelope cannot be read has no version of its
own; its place in the order is still checked, and the next event of its stream must name its digest.
A log may have millions of streams: of each some two hundred bytes are held.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from domain.ids import Stream
from eventlog.errors import LogDamaged
from eventlog.incoming import place_of
from eventlog.port import ZERO_DIGEST, Entry

UNREADABLE_VERSION = 0
NAME_BYTES = 16
DIGEST_BYTES = len(ZERO_DIGEST)


class ChainCheck:
    """The heads of all streams as of the last entry checked; streams are numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._versions = array("q")
        self._digests = bytearray()
        self._revision = 0

    @property
    def streams(self) -> int:
        """How many streams have events."""
        return len(self._numbers)

    def check(self, entries: Sequence[Entry]) -> None:
        """Require that entries continue the log; `LogDamaged` names the first that does not."""
        for entry in entries:
            self.check_next(entry)

    def check_next(self, entry: Entry) -> int:
        """Require that an entry continues the log, else `LogDamaged`; give its stream's number."""
        if entry.revision != self._revision + 1:
            raise LogDamaged(f"revision {entry.revision} stands where {self._revision + 1} should")
        self._revision = entry.revision
        number = self._number(entry.stream)
        head = slice(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES)
        version = self._versions[number] + 1
        place = place_of(entry.stream, entry.revision)
        if entry.event is not None or entry.version != UNREADABLE_VERSION:
            if entry.version != version:
                raise LogDamaged(f"{place} has version {entry.version}, not {version}")
            if entry.previous != self._digests[head]:
                raise LogDamaged(f"{place} does not follow the event before it")
        self._versions[number], self._digests[head] = version, entry.digest
        return number

    def _number(self, stream: Stream) -> int:
        name = blake2b("/".join(stream).encode(), digest_size=NAME_BYTES).digest()
        number = self._numbers.setdefault(name, len(self._versions))
        if number == len(self._versions):
            self._versions.append(0)
            self._digests += ZERO_DIGEST
        return number
