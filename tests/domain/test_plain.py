"""Signals decided in one step come to what `decide` comes to, wherever they are taken for plain."""

from __future__ import annotations

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from domain.commands import PersonCommand, RecordSignals
from domain.decide import decide
from domain.plain import plain_signals
from tests.domain.asking import act, identify, set_traits, signal, signals, unlink
from tests.domain.facts import LATE, RULES, at, email, left_out, linked, loyalty, on, user
from tests.domain.scenario import Scenario, given

A, B, C = user("a"), email("b"), loyalty("c")
KNOWN = given(on(1, linked(A, B)))
MESSAGES = ["m1", "m2", "m3", "m4"]

names = st.lists(st.sampled_from([A, B, C]), max_size=3)
sources = st.sampled_from(["shop", "ads", "web", "nobody"])
some = st.lists(
    st.builds(signal, st.sampled_from(MESSAGES), st.integers(0, 2_000)), min_size=1, max_size=4
)
asked = st.builds(
    lambda number, who, source, which, named, choices, blocked: signals(
        number,
        *who,
        source=source,
        messages=which,
        named=named,
        category_preferences=choices,
        left_out=left_out("BLOCKED", C) if blocked else (),
    ),
    st.integers(1, 4),
    names,
    sources,
    some,
    st.sampled_from([None, None, None, 1, 2]),
    st.sampled_from([{}, {}, {"ads": True}]),
    st.booleans(),
)
before = st.lists(
    st.one_of(
        asked,
        st.builds(identify, st.integers(1, 4), st.just(A), st.just(C)),
        st.builds(set_traits, st.integers(1, 4), st.just(A), message_id=st.sampled_from(MESSAGES)),
        st.builds(act, st.integers(1, 4), st.sampled_from(["given", "withdrawn"]), st.just(A)),
    ),
    max_size=4,
)


def is_same(scenario: Scenario, command: PersonCommand) -> bool:
    """Compare the two for the only customer there is; say whether the command was plain."""
    (customer,) = scenario.customers
    plain = plain_signals(RULES, customer.records[customer.root], command, now=at(LATE))
    if plain is not None:
        assert plain == decide(RULES, (customer,), command, now=at(LATE))
    return plain is not None


@settings(deadline=None)
@drawn(before, asked)
def test_what_is_plain_comes_to_the_same(
    history: list[PersonCommand], command: RecordSignals
) -> None:
    scenario = KNOWN
    for one in history:
        if scenario.when(one).decision is not None:
            scenario = scenario.after(one)
    if len(scenario.customers) == 1:
        is_same(scenario, command)


@pytest.mark.parametrize("source", ["shop", "web"])
@pytest.mark.parametrize("who", [(A,), (A, B), (B, A, A)])
def test_signals_of_somebody_known_are_plain(source: str, who: tuple[object, ...]) -> None:
    command = signals(2, *who, source=source, messages=["m1", "m2"])  # type: ignore[arg-type]  # identifiers
    assert is_same(KNOWN, command)
    assert not is_same(KNOWN.after(command), command)


@pytest.mark.parametrize(
    "command",
    [
        signals(2, A, source="ads"),
        signals(2, A, source="nobody"),
        signals(2, A, C),
        signals(2, A, named=1),
        signals(2, A, messages=["m1", "m1"]),
        signals(2, A, category_preferences={"ads": True}),
        signals(2, A, left_out=left_out("BLOCKED", C)),
        identify(2, A),
    ],
)
def test_whatever_else_is_to_be_looked_at_is_not_plain(command: PersonCommand) -> None:
    assert not is_same(KNOWN, command)


@pytest.mark.parametrize(("state", "is_plain"), [("given", True), ("withdrawn", False)])
def test_the_acts_of_somebody_are_judged(state: str, is_plain: bool) -> None:  # noqa: FBT001  # a case
    agreed = KNOWN.after(act(1, state, A))
    assert is_same(agreed, signals(2, A, source="ads")) == is_plain
    assert is_same(agreed, signals(2, A))


def test_signals_with_an_identifier_that_was_taken_over_are_not_plain() -> None:
    three = given(on(1, linked(A, B)), on(2, linked(C)))
    moved = three.after(unlink(3, B)).after(identify(4, C, B))
    record = moved.record(2)
    for command, is_plain in ((signals(5, B), False), (signals(5, C, B), False)):
        assert (plain_signals(RULES, record, command, now=at(LATE)) is not None) == is_plain
    assert plain_signals(RULES, record, signals(5, C), now=at(LATE)) is not None
    day_later = signals(5 + 2_000, B)
    assert plain_signals(RULES, record, day_later, now=at(LATE)) is not None


def test_somebody_of_two_records_is_not_plain() -> None:
    two = given(on(1, linked(A)), on(2, linked(B))).after(identify(3, A, B))
    assert not is_same(two, signals(4, A))
