"""Marks: the last event that each process acknowledged, where a killed process cannot lose it (R3).

A mark is written into memory shared with a file before anybody hears that an event is stored. It is
not synced: it outlives its process, not the machine, and what the machine loses with its power the
log's own sync has kept. Whoever opens the log compares it with all marks (`guard.py`).

A file is two slots of `_SLOT`, written in turn: sequence number, revision, digest and a checksum.
The valid slot with the higher number counts, so a write that was torn leaves the one before it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path
from zlib import crc32

from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.port import Witness

MARK_FILES_MAX = 512
"""Processes that acknowledge at once; each holds a file, and a later one takes it over."""

ACKNOWLEDGED = "acknowledged"
_FIELDS = struct.Struct(">QQ32s")
_SLOT = struct.Struct(">QQ32sI")
_BYTES = 2 * _SLOT.size
_Slot = tuple[int, int, bytes]
"""Sequence number, revision, digest."""


class Mark:
    """The mark of this process: `note` it before acknowledging."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _BYTES)
        last = _last_slot(self._memory[:])
        self._sequence, self._revision, _ = last or (0, 0, b"")

    @staticmethod
    def open(folder: Path) -> Mark:
        """Take the first file that no living process holds. Raises `LogDamaged` or `OSError`."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(MARK_FILES_MAX):
            descriptor = os.open(folder / f"{number:03}.mark", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_size < _BYTES:
                    os.ftruncate(descriptor, _BYTES)
                return Mark(descriptor)
            except BlockingIOError:
                os.close(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        raise LogUnavailable(f"more than {MARK_FILES_MAX} processes hold marks")

    def note(self, revision: int, digest: bytes) -> None:
        """Note an event that is about to be acknowledged, unless a later one is noted."""
        if revision <= self._revision:
            return
        self._sequence += 1
        self._revision = revision
        fields = _FIELDS.pack(self._sequence, revision, digest)
        start = self._sequence % 2 * _SLOT.size
        self._memory[start : start + _SLOT.size] = fields + crc32(fields).to_bytes(4, "big")

    def close(self) -> None:
        """Leave the file to the next process."""
        self._memory.close()
        os.close(self._descriptor)


def read_marks(folder: Path) -> list[Witness]:
    """Read the marks of all processes, dead or alive. Raises `LogDamaged` where one is spoilt."""
    found = []
    for path in sorted(folder.glob("*.mark")):
        last = _last_slot(path.read_bytes())
        if last is not None:
            found.append(Witness(ACKNOWLEDGED, last[1], last[2]))
    return found


def _last_slot(content: bytes) -> _Slot | None:
    """Give the slot that counts; None in a file without any."""
    content = content.ljust(_BYTES, b"\0")
    slots = [content[: _SLOT.size], content[_SLOT.size : _BYTES]]
    written = [slot for slot in slots if any(slot)]
    valid = [(n, r, d) for n, r, d, check in map(_SLOT.unpack, written) if check == _check(n, r, d)]
    if len(written) == len(slots) and not valid:
        raise LogDamaged("a mark of what was acknowledged cannot be read")
    return max(valid, default=None)


def _check(sequence: int, revision: int, digest: bytes) -> int:
    return crc32(_FIELDS.pack(sequence, revision, digest))
