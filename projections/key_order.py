"""Rows in the order of their keys, as a transaction sees them: what is stored, and what it changed.

Used by `tables.py` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping


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


def reordered(
    ordered: list[bytes], before: Collection[bytes], changed: Mapping[bytes, bytes | None]
) -> list[bytes]:
    """Give the keys in order after a change: of many rows a few, so they are not sorted anew."""
    gone = {key for key, encoded in changed.items() if encoded is None and key in before}
    kept = [key for key in ordered if key not in gone] if gone else list(ordered)
    kept += [key for key, encoded in changed.items() if encoded is not None and key not in before]
    kept.sort()  # two runs that are in order already are merged
    return kept


def after(prefix: bytes) -> bytes:
    """Give a key that sorts behind every key with this prefix: no key holds the byte 0xff."""
    return prefix + b"\xff"
