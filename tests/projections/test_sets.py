"""A set that is changed apart, and later, is the set that is changed at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from projections.sets import SetChange, read_set, write_set

NUMBERS = st.sets(st.integers(0, 20))
STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 20)))


def changed(members: set[int], steps: list[tuple[bool, int]]) -> set[int]:
    for is_in, number in steps:
        (members.add if is_in else members.discard)(number)
    return members


def change_of(steps: list[tuple[bool, int]]) -> SetChange:
    change = SetChange()
    for is_in, number in steps:
        (change.add if is_in else change.discard)(number)
    return change


@given(NUMBERS, STEPS, STEPS)
def test_two_changes_in_one(
    members: set[int], first: list[tuple[bool, int]], then: list[tuple[bool, int]]
) -> None:
    change = change_of(first).then(change_of(then))
    assert set(change.applied_to(BitMap(members))) == changed(set(members), [*first, *then])
    assert change.added.isdisjoint(change.removed)


@given(NUMBERS)
def test_a_set_is_read_as_it_was_written(members: set[int]) -> None:
    assert set(read_set(write_set(BitMap(members)))) == members
