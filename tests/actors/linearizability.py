"""Is there one order of what overlapping callers were told in which each answer was right?

The algorithm of Wing and Gong for a register of one value, with the states that were tried before
remembered. Knows nothing of consent: writes set the value, reads must see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FOR_EVER = float("inf")


@dataclass(frozen=True)
class Operation:
    """A write of a value, or a read that saw one, between its call and its answer.

    A write whose outcome nobody knows has not returned: it may take effect at any time, or never.
    """

    is_write: bool
    value: bool
    called: float
    returned: float = FOR_EVER


def is_linearizable(operations: Sequence[Operation], *, initial: bool) -> bool:
    """Search for an order; exhaustive, and fast as long as few operations overlap."""
    ordered = sorted(operations, key=lambda one: one.called)
    tried: set[tuple[int, frozenset[int], bool]] = set()
    stack: list[tuple[int, frozenset[int], bool]] = [(0, frozenset(), initial)]
    while stack:
        state = stack.pop()
        if state in tried:
            continue
        tried.add(state)
        first, done, value = state
        while first in done:
            done, first = done - {first}, first + 1
        if all(one.returned == FOR_EVER for one in _left(ordered, first, done)):
            return True
        for place in _may_be_next(ordered, first, done):
            one = ordered[place]
            if one.is_write:
                stack.append((first, done | {place}, one.value))
            elif one.value == value:
                stack.append((first, done | {place}, value))
    return False


def _left(ordered: Sequence[Operation], first: int, done: frozenset[int]) -> list[Operation]:
    return [one for place, one in enumerate(ordered[first:], start=first) if place not in done]


def _may_be_next(ordered: Sequence[Operation], first: int, done: frozenset[int]) -> list[int]:
    """Name the operations that were called before any other one that is left returned."""
    found: list[int] = []
    earliest_return = FOR_EVER
    for place in range(first, len(ordered)):
        if place in done:
            continue
        if ordered[place].called > earliest_return:
            break
        found.append(place)
        earliest_return = min(earliest_return, ordered[place].returned)
    return found


def stale_answers(operations: Sequence[Operation], stale: bool) -> list[Operation]:  # noqa: FBT001
    """Name the reads of a value that began after another write had returned, with none since.

    Follows from linearizability; said apart because it is the promise itself.
    """
    found = []
    for read in operations:
        if read.is_write or read.value != stale:
            continue
        writes = [one for one in operations if one.is_write and one.called < read.returned]
        closed = [one for one in writes if one.value != stale and one.returned < read.called]
        latest = max((one.called for one in closed), default=None)
        if latest is not None and not any(
            one.value == stale and one.returned > latest for one in writes
        ):
            found.append(read)
    return found
