"""Which households a person is of, by what was said of each: the newest word of every source.

Kept by records, decided on by `decide.py`, and combined by the read side. A word that comes late
beats no newer one, so the order in which words arrive is of no matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from domain.event import Event, Recorded
from domain.ids import EventId
from domain.preference_events import HouseholdLinked, HouseholdUnlinked

NO_MORE = ""
"""Stands for a source where the word is that the person is no more of the household."""


@dataclass(frozen=True, slots=True, order=True)
class Word:
    """When something was last said."""

    effective_at: datetime
    event_id: EventId


Words = Mapping[str, Word]
"""What was said of one household: by each source that the person is of it, and `NO_MORE`."""

Told = HouseholdLinked | HouseholdUnlinked


def by_whom(body: Told) -> str:
    """Name under whom a word is kept."""
    return body.source if isinstance(body, HouseholdLinked) else NO_MORE


def hear(words: Words, event: Recorded[Event], body: Told) -> Words:
    """Add what an event says."""
    return combined((words, {by_whom(body): Word(event.effective_at, event.event_id)}))


def combined(told: Iterable[Words]) -> Words:
    """Give of each source the newest word."""
    newest: dict[str, Word] = {}
    for words in told:
        for by, word in words.items():
            newest[by] = max(newest.get(by, word), word)
    return newest


def linked_by(words: Words) -> tuple[str, ...]:
    """Name the sources by whose word the person is of the household; none: they are not."""
    ended = words.get(NO_MORE)
    return tuple(by for by, word in words.items() if by and (ended is None or word > ended))


def is_repeated(words: Words, body: Told, *, at: datetime) -> bool:
    """Say whether a word is the newest of its source once more. An older one counts as of then."""
    said = words.get(by_whom(body))
    return said is not None and said.effective_at == at
