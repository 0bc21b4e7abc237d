"""Who is of a household: of each source the newest word, in whatever order the words arrive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from domain.commands import LinkHousehold, UnlinkHousehold
from domain.households import combined, linked_by
from domain.ids import record_stream
from domain.preference_events import HouseholdLinked, HouseholdUnlinked
from tests.domain.asking import envelope, erasing, identify, undo
from tests.domain.facts import at, command_id, edge, email, linked, on, record_id, user
from tests.domain.scenario import Scenario, given

A, B = user("a"), email("b")
HOME = command_id(77)
ONE = given(on(1, linked(A)))
TWO = given(on(1, linked(A)), on(2, linked(B)))
MERGED = TWO.after(identify(10, A, B))
PARTING = undo(1_000, edge(10, 1, 2).merge_id, named=1)


class Word(NamedTuple):
    """What is said of one of two customers: a source says that they are of it; None, that not."""

    source: str | None
    minute: int
    to: int = 1


def telling(number: int, word: Word) -> LinkHousehold | UnlinkHousehold:
    said = envelope(number, {"household_id": HOME, "happened_at": at(word.minute)})
    identifiers = (A if word.to == 1 else B,)
    if word.source is None:
        return UnlinkHousehold(identifiers=identifiers, **said)
    return LinkHousehold(identifiers=identifiers, source=word.source, **said)


def told(scenario: Scenario, words: Iterable[Word], *, first: int = 20) -> Scenario:
    for number, word in enumerate(words, start=first):
        scenario = scenario.after(telling(number, word))
    return scenario


def sources(scenario: Scenario, *numbers: int) -> set[str]:
    """Name by whose word a customer of these records is of the household."""
    return {*linked_by(combined(scenario.record(n).households.get(HOME, {}) for n in numbers))}


def by_the_words(words: Iterable[Word]) -> set[str]:
    """Say the same by looking at everything that was said, oldest first."""
    found: set[str] = set()
    for word in sorted(words, key=lambda word: word.minute):
        found = set() if word.source is None else found | {word.source}
    return found


def test_who_is_linked_while_merged_with_somebody_of_the_household_stays_so_after_an_undo() -> None:
    merged = told(TWO, [Word("shop", 1, to=1)]).after(identify(10, A, B))
    parted = told(merged, [Word("shop", 2, to=2)], first=30).after(PARTING)
    assert sources(parted, 1) == sources(parted, 2) == {"shop"}


def test_who_is_unlinked_while_merged_is_so_on_every_record_after_an_undo() -> None:
    merged = told(TWO, [Word("shop", 1, to=1)]).after(identify(10, A, B))
    parted = told(merged, [Word(None, 9, to=2)], first=30).after(PARTING)
    assert sources(told(parted, [Word("web", 5, to=1)], first=40), 1) == set()
    assert sources(told(parted, [Word("web", 5, to=2)], first=40), 2) == set()


def test_what_one_was_told_before_a_merge_is_theirs_alone_after_the_undo() -> None:
    apart = told(TWO, [Word("shop", 5, to=1), Word(None, 9, to=2)])
    merged = apart.after(identify(10, A, B))
    assert sources(merged, 1, 2) == set()
    parted = merged.after(PARTING)
    assert sources(parted, 1) == {"shop"}
    assert sources(parted, 2) == set()


def test_a_link_that_comes_late_beats_no_newer_unlink() -> None:
    unlinked = told(ONE, [Word(None, 9)])
    assert unlinked.record(1).households
    late = unlinked.when(telling(30, Word("shop", 1)))
    late.then(on(1, HouseholdLinked(household_id=HOME, source="shop")))
    assert sources(unlinked.after(telling(30, Word("shop", 1))), 1) == set()


def test_an_unlink_that_comes_late_beats_no_newer_link() -> None:
    assert sources(told(ONE, [Word("shop", 9), Word(None, 1)]), 1) == {"shop"}


def test_of_two_words_of_one_time_the_one_that_came_later_counts() -> None:
    unlinked = told(ONE, [Word(None, 5)])
    linked_again = on(1, HouseholdLinked(household_id=HOME, source="shop"))
    unlinked.when(telling(30, Word("shop", 5))).then(linked_again)
    known = told(ONE, [Word("shop", 5)])
    known.when(telling(30, Word(None, 5))).then(on(1, HouseholdUnlinked(household_id=HOME)))


def test_the_same_word_twice_is_stored_once() -> None:
    for word in (Word("shop", 5), Word(None, 5)):
        told(ONE, [word]).when(telling(30, word)).then_nothing()


def test_an_erasure_counts_the_households_that_stand() -> None:
    for words, count in (([Word("shop", 1)], 1), ([Word("shop", 1), Word(None, 2)], 0)):
        decision = told(ONE, words).when(erasing(30, A)).decision
        assert decision is not None
        assert decision.consequences is not None
        assert [record.households for record in decision.consequences.erased] == [count]


SAID = st.lists(
    st.builds(
        Word,
        source=st.sampled_from(["shop", "web", None]),
        minute=st.integers(1, 99),
        to=st.sampled_from([1, 2]),
    ),
    unique_by=lambda word: word.minute,
    max_size=7,
)


@settings(deadline=None)
@given_any(SAID)
def test_whatever_was_not_said_yet_is_stored_however_late_it_comes(words: list[Word]) -> None:
    scenario = TWO
    for number, word in enumerate(words, start=20):
        decision = scenario.when(telling(number, word)).decision
        assert decision is not None
        assert [change.stream for change in decision.changes] == [record_stream(record_id(word.to))]
        scenario = scenario.after(telling(number, word))


@settings(deadline=None)
@given_any(st.data())
def test_words_that_come_late_or_twice_come_to_the_same_in_any_order(data: st.DataObject) -> None:
    words = data.draw(SAID)
    again = data.draw(st.lists(st.sampled_from(words), max_size=3)) if words else []
    arriving = data.draw(st.permutations(words + again))
    merged = told(MERGED, arriving)
    assert sources(merged, 1, 2) == by_the_words(words)
    apart = told(TWO, arriving)
    for number in (1, 2):
        own = by_the_words(word for word in words if word.to == number)
        assert sources(apart, number) == own
        joined_and_parted = apart.after(identify(10, A, B)).after(PARTING)
        assert sources(joined_and_parted, number) == own
    assert sources(apart.after(identify(10, A, B)), 1, 2) == by_the_words(words)
    assert {*apart.records} == {record_id(1), record_id(2)}
