"""The checker of histories finds what is wrong, and nothing where all is well."""

from __future__ import annotations

import random
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.actors.linearizability import FOR_EVER, Operation, is_linearizable, stale_answers


def write(value: bool, called: float, returned: float = FOR_EVER) -> Operation:  # noqa: FBT001
    return Operation(True, value, called, returned)


def read(value: bool, called: float, returned: float) -> Operation:  # noqa: FBT001
    return Operation(False, value, called, returned)


def test_a_yes_after_a_withdrawal_was_acknowledged_is_found() -> None:
    told = [write(True, 0, 1), write(False, 2, 3), read(True, 4, 5)]
    assert not is_linearizable(told, initial=False)
    assert stale_answers(told, stale=True) == [told[2]]


def test_a_yes_that_overlaps_the_withdrawal_is_right() -> None:
    told = [write(True, 0, 1), write(False, 2, 5), read(True, 4, 6)]
    assert is_linearizable(told, initial=False)
    assert stale_answers(told, stale=True) == []


def test_a_yes_after_a_no_during_one_withdrawal_is_found() -> None:
    told = [write(True, 0, 1), write(False, 2, 9), read(False, 3, 4), read(True, 5, 6)]
    assert not is_linearizable(told, initial=False)


def test_a_write_of_unknown_outcome_may_have_happened_or_not() -> None:
    for seen in (True, False):
        assert is_linearizable([write(True, 0), read(seen, 1, 2)], initial=False)
    told = [write(True, 0), read(True, 1, 2), read(False, 3, 4)]
    assert not is_linearizable(told, initial=False)


def slowly(told: list[Operation], *, initial: bool) -> bool:
    """Try every order of all that returned, and of any of the rest."""
    unknown = [one for one in told if one.returned == FOR_EVER]
    certain = [one for one in told if one.returned != FOR_EVER]
    for chosen in range(2 ** len(unknown)):
        some = [one for place, one in enumerate(unknown) if chosen >> place & 1]
        if any(holds(order, initial=initial) for order in permutations([*certain, *some])):
            return True
    return False


def holds(order: tuple[Operation, ...], *, initial: bool) -> bool:
    value = initial
    for place, one in enumerate(order):
        if any(later.returned < one.called for later in order[place + 1 :]):
            return False
        if one.is_write:
            value = one.value
        elif one.value != value:
            return False
    return True


@given(st.integers(0, 10**9))
@settings(max_examples=300, deadline=None)
def test_it_says_the_same_as_trying_every_order(seed: int) -> None:
    die = random.Random(seed)
    told = []
    for _ in range(die.randrange(1, 6)):
        called = die.randrange(10)
        is_write = die.random() < 0.5
        returned = FOR_EVER if is_write and die.random() < 0.2 else called + die.randrange(1, 6)
        told.append(Operation(is_write, die.random() < 0.5, called, returned))
    assert is_linearizable(told, initial=False) == slowly(told, initial=False)


def test_nothing_said_is_right() -> None:
    assert is_linearizable([], initial=False)
