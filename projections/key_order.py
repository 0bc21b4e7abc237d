"""Rows in the order of their keys, as a transaction sees them: what is stored, and what it changed.

Used by `tables.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def merged(
    stored: Iterable[tuple[bytes, bytes]], changed: list[bytes]
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the keys of both in order, each once, with what is stored."""
    left = changed[::-1]
    for key, encoded in stored:
        while left and left[-1] < key:
            yield left.pop(), None
        if left and left[-1] == key:
            left.pop()
        yield key, encoded
    for key in reversed(left):
        yield key, None


def after(prefix: bytes) -> bytes:
    """Give a key that sorts behind every key with this prefix: no key holds the byte 0xff."""
    return prefix + b"\xff"
