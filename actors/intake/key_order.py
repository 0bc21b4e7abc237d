"""The order of messages that were published with a key: none is carried out before an earlier one.

Kept by the worker over all of its rounds. A message that comes again holds up those behind it that
have its key, and nobody else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence

from actors.intake.cloud_events import SUBJECT_TOKENS_MAX
from actors.intake.port import IntakeMessage

Ending = asyncio.Future[None]
"""Done when a round is."""

Key = tuple[str, str]
"""A stream, and source and key as the subject has them."""


def key_of(message: IntakeMessage, *, prefix: str) -> Key | None:
    """Read the key of a message; None where its order does not matter."""
    rest = message.subject.removeprefix(f"{prefix}.")
    return (message.stream, rest) if rest.count(".") == SUBJECT_TOKENS_MAX - 1 else None


class KeyOrder:
    """Know which messages with a key are not settled, and who has to wait for whom."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._unsettled: dict[Key, list[int]] = {}
        self._last_round: dict[Key, Ending] = {}

    def begin(self, messages: Iterable[IntakeMessage]) -> tuple[set[Ending], Ending]:
        """Note a round's messages; give the earlier rounds that have to end first, and its own."""
        own: Ending = asyncio.get_running_loop().create_future()
        before: set[Ending] = set()
        for key, message in self._keyed(messages):
            known = self._unsettled.setdefault(key, [])
            if message.sequence not in known:
                insort(known, message.sequence)
            earlier = self._last_round.get(key)
            if earlier is not None and earlier is not own:
                before.add(earlier)
            self._last_round[key] = own
        return before, own

    def held(self, messages: Sequence[IntakeMessage]) -> set[str]:
        """Name, by token, those of a round that wait for one that is not in it."""
        here: dict[Key, set[int]] = {}
        for key, message in self._keyed(messages):
            here.setdefault(key, set()).add(message.sequence)
        return {
            message.token
            for key, message in self._keyed(messages)
            if not here[key].issuperset(self._before(key, message.sequence))
        }

    def _before(self, key: Key, sequence: int) -> list[int]:
        known = self._unsettled.get(key, [])
        return known[: bisect_left(known, sequence)]

    def end(
        self, own: Ending, messages: Iterable[IntakeMessage], *, settled: Iterable[IntakeMessage]
    ) -> None:
        """Let go of what a round settled, and of whoever waits for the round."""
        for key, message in self._keyed(settled):
            known = self._unsettled.get(key, [])
            if message.sequence in known:
                known.remove(message.sequence)
            if not known:
                self._unsettled.pop(key, None)
        for key, _ in self._keyed(messages):
            if self._last_round.get(key) is own:
                del self._last_round[key]
        if not own.done():
            own.set_result(None)

    def forget(self, settled_through: Mapping[str, int]) -> None:
        """Forget what is settled in its stream, by whomever: it will not come again."""
        for key, known in list(self._unsettled.items()):
            floor = settled_through.get(key[0], 0)
            del known[: bisect_right(known, floor)]
            if not known and key not in self._last_round:
                del self._unsettled[key]

    def _keyed(self, messages: Iterable[IntakeMessage]) -> Iterable[tuple[Key, IntakeMessage]]:
        for message in messages:
            key = key_of(message, prefix=self._prefix)
            if key is not None:
                yield key, message
