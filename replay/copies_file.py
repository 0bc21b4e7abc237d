"""Which record holds which signal, of a share that was folded and let go of: in a file.

Copies of a signal may lie in several shares; which do is known when all are folded. Written as the
rows are stored: nothing personal is in them. Read once, and only if there are such signals.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import orjson

from projections.copies import REPEATS, SIGNALS
from projections.memory import MemoryTables
from replay.shares import Copy, short

_FRAME = struct.Struct(">HI")


def write_copies(folder: Path, number: int, tables: MemoryTables) -> None:
    """Write the copies of a share."""
    for table in (SIGNALS, REPEATS):
        with _path(folder, number, table).open("wb", buffering=1 << 20) as file:
            for key, stored in tables.scan_stored(table, b""):
                file.write(_FRAME.pack(len(key), len(stored)))
                file.write(key)
                file.write(stored)


def read_copies(folder: Path, number: int, signals: Collection[int]) -> list[Copy]:
    """Give a share's copies of these signals, by the first digits of their keys."""
    wanted = frozenset(signals)
    firsts = [
        (key.decode(), orjson.loads(stored))
        for key, stored in _frames(_path(folder, number, SIGNALS))
        if short(key) in wanted
    ]
    repeated = {f"{record}/{key}".encode() for key, row in firsts for record in row.get("also", ())}
    repeats = {
        key: orjson.loads(stored)
        for key, stored in (_frames(_path(folder, number, REPEATS)) if repeated else ())
        if key in repeated
    }
    return list(_copies(firsts, repeats))


def _copies(
    firsts: Iterable[tuple[str, dict[str, object]]], repeats: dict[bytes, dict[str, object]]
) -> Iterator[Copy]:
    for key, row in firsts:
        also = row.pop("also", ())
        assert isinstance(also, list | tuple)
        yield Copy(key, row, is_first=True)
        for record in also:
            yield Copy(key, repeats[f"{record}/{key}".encode()], is_first=False)


def _frames(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb", buffering=1 << 20) as file:
        while frame := file.read(_FRAME.size):
            key_bytes, stored_bytes = _FRAME.unpack(frame)
            yield file.read(key_bytes), file.read(stored_bytes)


def _path(folder: Path, number: int, table: str) -> Path:
    return folder / f"{table}-{number}"
