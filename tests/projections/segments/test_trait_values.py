"""What stands for a value in an index: equal for equal values alone, in order where it is open."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from projections.segments.trait_values import (
    BOUND_BYTES_MAX,
    OPEN_TEXT_BYTES_MAX,
    Range,
    is_behind,
    is_within,
    range_start,
    value_key,
)

NUMBERS = (
    st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -0.0, 2.0**60, 2**60 + 1, 1e300, 5e-324])
)
LETTERS = st.text(st.sampled_from("ab\x00\x01é日\U0001f600"), max_size=4)
LONG = st.integers(BOUND_BYTES_MAX - 4, OPEN_TEXT_BYTES_MAX)
TEXTS = LETTERS | st.text(max_size=3) | st.builds(lambda n, t: "x" * n + t, LONG, LETTERS)
BOUNDS = TEXTS.filter(lambda text: len(text.encode()) <= BOUND_BYTES_MAX)
SCALARS = st.booleans() | st.none() | NUMBERS | TEXTS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(LETTERS, inner, max_size=2),
    max_leaves=4,
)


def key(value: Any, *, is_open: bool, trait: str = "t") -> bytes:
    return value_key(value, trait=trait, index_key=b"secret", is_open=is_open)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is no number, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other)


@given(VALUES, VALUES, st.booleans())
@example(1, 1.0, True)
@example(True, 1, True)
@example(2**53, 2**53 + 1, True)
@example([1], [1.0], False)
@example({"a": None}, {}, False)
@example("1", 1, False)
def test_keys_are_equal_where_values_are(one: Any, other: Any, is_open: Any) -> None:
    keys = key(one, is_open=is_open), key(other, is_open=is_open)
    assert (keys[0] == keys[1]) == same(one, other)


@given(VALUES, st.booleans())
def test_a_key_is_short_and_holds_no_byte_that_ends_a_scan(value: Any, is_open: Any) -> None:
    made = key(value, is_open=is_open)
    assert len(made) < 480
    assert b"\xff" not in made


@given(VALUES)
def test_a_personal_value_does_not_stand_in_its_key(value: Any) -> None:
    made = key(value, is_open=False)
    assert len(made) == 41
    assert made != key(value, is_open=False, trait="another")
    assert made != value_key(value, trait="t", index_key=b"other", is_open=False)


def ranges(bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[Range]:
    ends = st.tuples(st.none() | bounds, st.none() | bounds).filter(any_end)
    flags = st.tuples(st.booleans(), st.booleans())
    return st.builds(lambda e, f: Range(e[0], e[1], f[0], f[1]), ends, flags)


def any_end(ends: tuple[Any, Any]) -> bool:
    return ends[0] is not None or ends[1] is not None


@given(st.lists(VALUES, max_size=20), ranges(NUMBERS) | ranges(BOUNDS))
@example(["a", "a\x00", "a\x00\x00", "ab"], Range("a", "a\x00"))
@example([2**60, 2**60 + 1, 2.0**60], Range(lower=2.0**60, includes_lower=False))
@example(["x" * BOUND_BYTES_MAX, "x" * 300], Range(upper="x" * BOUND_BYTES_MAX))
def test_a_scan_of_open_values_finds_those_within_a_range(values: list[Any], within: Range) -> None:
    found = set()
    for made in sorted({key(value, is_open=True) for value in values}):
        if made < range_start(within):
            continue
        if is_behind(made, within):
            break
        if is_within(made, within):
            found.add(made)
    assert found == {key(value, is_open=True) for value in values if is_inside(value, within)}


def is_inside(value: Any, within: Range) -> bool:
    lower: Any = within.lower
    upper: Any = within.upper
    is_text = isinstance(upper if lower is None else lower, str)
    if isinstance(value, bool) or not isinstance(value, str if is_text else int | float):
        return False
    is_above = lower is None or value > lower or (within.includes_lower and value == lower)
    is_below = upper is None or value < upper or (within.includes_upper and value == upper)
    return bool(is_above and is_below)
