"""What one look shows to be ready is what all the looks behind it find ready, over any course."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings

from actors.readiness import Readiness, Unreadable
from actors.rounds import Waiting
from tests.actors.house import WIDE
from tests.actors.test_moved_schedules import ERASING, KINDS, PROPERTY, Step, run, steps

prepare = Readiness.prepare


class Unasked:
    """A log that nothing may be asked of."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked")


class Looks:
    """Takes every look at what the first one shows to be ready, and notes what it finds."""

    def __init__(self) -> None:
        self.taken = 0
        self.found: list[str] = []

    async def prepare(self, ready: Readiness, batch: Sequence[Waiting]) -> Unreadable:
        inner: Any = ready
        at_hand = [waiting for waiting in batch if inner._is_at_hand(waiting)]
        before = [_told(waiting) for waiting in at_hand]
        kept = (inner._log, inner._waker)
        inner._log = inner._waker = Unasked()
        inner._is_at_hand = lambda _: False
        try:
            unreadable = await prepare(ready, at_hand)
            if unreadable or before != [_told(waiting) for waiting in at_hand]:
                self.found.append("something was unreadable, or was told anew")
        except AssertionError as error:
            self.found.append(str(error))
        finally:
            inner._log, inner._waker = kept
            del inner._is_at_hand
        self.taken += len(at_hand)
        return await prepare(ready, batch)


def _told(waiting: Waiting) -> tuple[object, ...]:
    return (dict(waiting.routed.owners), dict(waiting.streams), waiting.before, waiting.held)


def looked_at(course: list[Step]) -> Looks:
    looks = Looks()
    with patch.object(Readiness, "prepare", lambda ready, batch: looks.prepare(ready, batch)):  # noqa: PLW0108  # bound to the host's
        asyncio.run(run(course, WIDE))
    return looks


@given(steps([*KINDS, *ERASING, *["track"] * 8]))
@settings(PROPERTY, max_examples=20)
def test_one_look_overlooks_nothing(course: list[Step]) -> None:
    assert looked_at(course).found == []


def test_and_it_is_what_saves_the_others() -> None:
    assert looked_at([Step("track", (0, 1), 0, 0)] * 3).taken > 0
