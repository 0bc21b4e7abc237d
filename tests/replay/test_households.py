"""Who was of a household by a time: by the words that had happened, in whatever order told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import LinkHousehold, UnlinkHousehold
from domain.ids import RecordId
from replay.as_of import AsOf, find_prefix
from replay.customer import fold_customers
from tests.actors.house import CLOCK, Workspace, consent, identify, person, user, workspace

A, B = user("a"), user("b")
HOME = str(UUID(int=7))
JUNE = datetime(2025, 6, 1, tzinfo=UTC)


class Word(NamedTuple):
    """A source says that somebody is of the household, since a day of June; None, that not."""

    source: str | None
    day: int
    to: str = "a"


def by(day: float) -> datetime:
    return JUNE + timedelta(days=day - 1)


def is_of_household(words: Sequence[Word], *, on: float) -> bool:
    """Say it by the words that had happened, oldest first."""
    said_by: set[str] = set()
    for word in sorted(words, key=lambda word: word.day):
        if word.day <= on:
            said_by = set() if word.source is None else said_by | {word.source}
    return bool(said_by)


@asynccontextmanager
async def two_people() -> AsyncIterator[Workspace]:
    async with workspace() as house:
        for somebody in (A, B):
            await house.done(identify(somebody))
            await house.done(consent("given", somebody))
        yield house


async def tell(house: Workspace, words: Sequence[Word]) -> None:
    for word in words:
        said = {"household_id": HOME, "happened_at": by(word.day)}
        asked = person((user(word.to),), said)
        if word.source is None:
            await house.done(UnlinkHousehold(**asked))
        else:
            await house.done(LinkHousehold(**asked, source=word.source))


async def days_seen(house: Workspace, *, days: Sequence[float]) -> list[float]:
    """Give the days as of which somebody is seen in the household."""
    root = RecordId(str(await house.customer_of(A)))
    found = []
    for day in days:
        prefix = await find_prefix(house.log, AsOf(happened=by(day)), now=CLOCK.now())
        past = await fold_customers(house.log, prefix, record_ids=[root])
        view = past.view(root, "audit")
        assert view is not None
        found += [day] * len(view.households)
    return found


@pytest.mark.parametrize(
    ("words", "days"),
    [
        ([Word("shop", 10), Word("shop", 5)], [7, 12]),
        ([Word("shop", 1), Word(None, 10), Word("ads", 5), Word(None, 3)], [2, 7]),
    ],
)
async def test_a_word_that_came_late_is_seen_as_of_when_it_happened(
    words: list[Word], days: list[float]
) -> None:
    async with two_people() as house:
        await tell(house, words)
        assert await days_seen(house, days=[0.5, 2, 4, 7, 12]) == days


SAID = st.lists(
    st.builds(
        Word,
        source=st.sampled_from(["shop", "ads", None]),
        day=st.integers(1, 9),
        to=st.sampled_from(["a", "b"]),
    ),
    unique_by=lambda word: word.day,
    max_size=7,
)


@settings(deadline=None, max_examples=40)
@given(st.data())
async def test_as_of_any_time_those_words_count_that_had_happened(data: st.DataObject) -> None:
    words = data.draw(SAID)
    again = data.draw(st.lists(st.sampled_from(words), max_size=2)) if words else []
    arriving = data.draw(st.permutations(words + again))
    merged_at = data.draw(st.integers(0, len(arriving)))
    async with two_people() as house:
        await tell(house, arriving[:merged_at])
        await house.done(identify(A, B))
        await tell(house, arriving[merged_at:])
        days = [day / 2 for day in range(1, 20)]
        expected = [day for day in days if is_of_household(words, on=day)]
        assert await days_seen(house, days=days) == expected
