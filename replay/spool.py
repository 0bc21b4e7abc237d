"""Stored messages of a log in a file, each with the number of its stream; read by share.

A second reading of the log from its server would cost every share what the first one cost. What is
sealed stays sealed; the file lies in a folder that is gone when the fold is.
"""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgpack

from eventlog.incoming import Raw
from projections.clock import LogTimes
from replay.scanning import EVERY_SHARE

READ_AT_ONCE = 2_000
_FRAME = struct.Struct(">II")
EVENTS, TIMES = "events", "times"


class SpoolWriter:
    """Writes messages; close it before anybody reads."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / EVENTS).open("wb", buffering=1 << 20)

    def write(self, number: int, message: Raw) -> None:
        """Write a message of the stream with this number."""
        packed = msgpack.packb((message.subject, message.revision, message.headers, message.body))
        self._file.write(_FRAME.pack(len(packed), number))
        self._file.write(packed)

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def read_share(folder: Path, dealt: bytes, share: int) -> Iterator[list[Raw]]:
    """Yield the messages of one share, in order; `dealt` says by stream whose they are."""
    path = folder / EVENTS
    if not path.stat().st_size:
        return
    found: list[Raw] = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as events:
        place, end = 0, len(events)
        while place < end:
            length, number = _FRAME.unpack_from(events, place)
            place += _FRAME.size
            if dealt[number] in (share, EVERY_SHARE):
                subject, revision, headers, body = msgpack.unpackb(events[place : place + length])
                found.append(Raw(subject, revision, headers, body))
                if len(found) == READ_AT_ONCE:
                    yield found
                    found = []
            place += length
    yield found


def write_times(folder: Path, shown: array[int]) -> None:
    """Write what the clock shows after each event."""
    with (folder / TIMES).open("wb") as file:
        shown.tofile(file)


def read_times(folder: Path) -> LogTimes:
    """Read what the clock shows after each event."""
    path = folder / TIMES
    if not path.stat().st_size:
        return LogTimes(())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return LogTimes(memoryview(mapped).cast("q"))
