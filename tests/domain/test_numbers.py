"""Exact decimals: what a publisher wrote is what is summed, without drift."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.signals import add_exactly, exact_number

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def total(amounts: list[float]) -> str:
    text = "0"
    for amount in amounts:
        number = exact_number(amount)
        assert number is not None
        text = add_exactly(text, str(number))
    return text


def test_cents_do_not_drift() -> None:
    assert total([0.1] * 10) == "1.0"
    assert total([29.33, 14.96, 26.48, 29.73]) == "100.50"


@pytest.mark.parametrize("value", ["7", None, True, False, [1], {"a": 1}, math.nan, math.inf])
def test_what_is_no_number_is_no_number(value: object) -> None:
    assert exact_number(value) is None  # type: ignore[arg-type] # JSON values, and not quite


def test_integers_of_any_size_are_numbers() -> None:
    assert exact_number(10**30) == Decimal(10**30)
    assert exact_number(-7) == Decimal(-7)


def test_the_text_of_a_sum_has_no_exponent() -> None:
    assert "e" not in add_exactly("1e300", "1e-300").lower()


@given(FLOATS)
def test_a_number_is_read_by_its_shortest_text(value: float) -> None:
    number = exact_number(value)
    assert number is not None
    assert float(number) == value


@given(st.lists(FLOATS, max_size=6))
def test_sums_are_exact_and_do_not_depend_on_order(amounts: list[float]) -> None:
    exact = sum((Fraction(Decimal(repr(amount))) for amount in amounts), Fraction(0))
    assert Fraction(Decimal(total(amounts))) == exact
    assert Fraction(Decimal(total(amounts[::-1]))) == exact
