"""Sets of numbers that are stored as roaring bitmaps, and how a transaction changes one.

A change is kept as what comes in and what goes, and applied when it is stored: who changes a set
of a million need not read it, and changes made apart are put together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyroaring import BitMap


@dataclass(slots=True)
class SetChange:
    """What comes into a set and what goes; what was said last of a number holds."""

    added: BitMap = field(default_factory=BitMap)
    removed: BitMap = field(default_factory=BitMap)

    def add(self, number: int) -> None:
        """Put a number in."""
        self.added.add(number)
        self.removed.discard(number)

    def discard(self, number: int) -> None:
        """Take a number out."""
        self.removed.add(number)
        self.added.discard(number)

    def then(self, later: SetChange) -> SetChange:
        """Give this change and a later one in one."""
        added = (self.added - later.removed) | later.added
        return SetChange(added, (self.removed - later.added) | later.removed)

    def applied_to(self, members: BitMap) -> BitMap:
        """Give what becomes of a set."""
        return (members - self.removed) | self.added


def read_set(stored: bytes | None) -> BitMap:
    """Read a set; empty where none is stored."""
    return BitMap() if stored is None else BitMap.deserialize(stored)


def write_set(members: BitMap) -> bytes | None:
    """Write a set; an empty one is not stored."""
    return members.serialize() if members else None
