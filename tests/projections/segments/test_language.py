"""Expressions are refused where they are defined, with the place; what they read is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.workspace_events import EXPRESSION_CHARACTERS_MAX
from projections.segments.errors import InvalidExpression
from projections.segments.language import check_types, read_expression
from projections.segments.vocabulary import Call


def fault_found(check: Callable[[str], object], expression: str) -> tuple[str, int, int]:
    with pytest.raises(InvalidExpression) as refused:
        check(expression)
    fault = refused.value.faults[0]
    return fault.reason, fault.line, fault.column


@pytest.mark.parametrize(
    ("expression", "reason", "line", "column"),
    [
        ('count("A",', "SYNTAX", 1, 11),
        ("true &&\n  traits.a = 1", "SYNTAX", 2, 12),
        ('seen("A") &&\n  count("A", "30x") > 1', "BAD_ARGUMENT", 2, 14),
        ("count(traits.x) > 1", "NOT_LITERAL", 1, 7),
        ('count("A" + "B") > 1', "NOT_LITERAL", 1, 7),
        ('["A"].exists(n, count(n) > 1)', "NOT_LITERAL", 1, 23),
        ('"A".count("30d") > 1', "NOT_A_CALL", 1, 5),
        ("count()  > 1", "BAD_ARGUMENT", 1, 1),
        ("true && profile.x == 1", "UNKNOWN_NAME", 1, 9),
        ("true && now() > 1", "UNKNOWN_FUNCTION", 1, 9),
        ('true || in_segment("x")', "UNKNOWN_FUNCTION", 1, 9),
        ("true || _f2()", "UNKNOWN_FUNCTION", 1, 9),
        ('count("A", "ever", "properties.x ==") > 1', "SYNTAX", 1, 20),
        ('count("A", "ever", "traits.x == 1") > 1', "UNKNOWN_NAME", 1, 20),
        ('sequence("A", "B", "ever")', "BAD_ARGUMENT", 1, 20),
        ('sequence("A", "", "1d")', "BAD_ARGUMENT", 1, 15),
        ('count("A", "9999d") > 1', "BAD_ARGUMENT", 1, 12),
        ("[1].exists(count, count > 0)", "RESERVED", 1, 12),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "TOO_MANY_LOOPS", 1, 27),
        ('count("A")', "NOT_TRUE_OR_FALSE", 1, 1),
        ('seen("A") ? seen("B") : count("A")', "NOT_TRUE_OR_FALSE", 1, 25),
        ('seen("A") ? count("A") : (seen("B"))', "NOT_TRUE_OR_FALSE", 1, 13),
        ('seen("A") &&\n  (count("A") > 1 || count("B"))', "WRONG_TYPE", 2, 22),
        ('traits.a > 1 && !(count("A"))', "WRONG_TYPE", 1, 18),
        ('traits.a == "in + (x" && seen("A") == (1 + "x" > 1.0)', "WRONG_TYPE", 1, 40),
        ('count("A") > 0 && -count("B") - first("A") * 2.0 > 1.0', "WRONG_TYPE", 1, 33),
        ('count("A") ? seen("A") : seen("B")', "WRONG_TYPE", 1, 1),
        ('(seen("A") ? 1 : 2) + "x" == "y" || seen("B")', "WRONG_TYPE", 1, 1),
        ('"x" in ["x"] && first("A") > 3', "WRONG_TYPE", 1, 17),
        ('sum("A", "x") / seen("A") > 5.0', "WRONG_TYPE", 1, 1),
        ('preference("email") > 3', "WRONG_TYPE", 1, 1),
        ('true && count("A", "ever", "1 + 1") > 1', "NOT_TRUE_OR_FALSE", 1, 28),
        ("!" * 65 + "true", "TOO_DEEP", 1, 65),
        (" " * (EXPRESSION_CHARACTERS_MAX + 1), "TOO_LONG", 1, EXPRESSION_CHARACTERS_MAX + 1),
    ],
)
def test_a_fault_is_shown_at_its_place(
    expression: str, reason: str, line: int, column: int
) -> None:
    assert fault_found(read_expression, expression) == (reason, line, column)


@pytest.mark.parametrize(
    ("expression", "reason", "line", "column"),
    [
        ('count("A") > 5 && count("B")', "WRONG_TYPE", 1, 19),
        ('count("A") > 0 || (seen("B") && first("A") > 3)', "WRONG_TYPE", 1, 33),
        ('count("A") > 5 ? (seen("B") ? 1 : 2) : true', "NOT_TRUE_OR_FALSE", 1, 31),
        ('has(traits.a) && count("A") > 5 && "x" + 1 == "x1"', "WRONG_TYPE", 1, 36),
        ('count("A", "3d", "true || \'a\' + 1 == \'b\'") > 1', "WRONG_TYPE", 1, 18),
        ('true || timestamp("garbage") < last("A")', "ALWAYS_FAILS", 1, 9),
        ('seen("A") || (seen("B") && duration("1x") < duration("3h"))', "ALWAYS_FAILS", 1, 28),
        ('count("A", "3d", "true || size(1) == 2") > 1', "ALWAYS_FAILS", 1, 18),
        ('count("A") / 0 > 1', "ALWAYS_FAILS", 1, 14),
        ("traits.x % 0x0u == 1u || traits.x / 2 > 1", "ALWAYS_FAILS", 1, 12),
        ("traits.x / 0.0 > 1.0", "ALWAYS_FAILS", 1, 12),
        ('seen("A", "ever", "properties.x / 0 > 1")', "ALWAYS_FAILS", 1, 19),
        ('traits.x.matches("a+") && traits.x.matches("(")', "BAD_ARGUMENT", 1, 44),
        ('segment("s") == "x"', "WRONG_TYPE", 1, 1),
        ('traits.x > 1 && (consent("a") != 1 || true)', "WRONG_TYPE", 1, 18),
        ('"x" == identified("email")', "WRONG_TYPE", 1, 1),
        ('!(count("A") == "x")', "WRONG_TYPE", 1, 2),
        ('has(traits.x) == "yes"', "WRONG_TYPE", 1, 1),
        ('first("A") == "2026-01-01"', "WRONG_TYPE", 1, 1),
    ],
)
def test_types_are_checked_also_behind_a_short_circuit(
    expression: str, reason: str, line: int, column: int
) -> None:
    read_expression(expression)
    assert fault_found(check_types, expression) == (reason, line, column)


@pytest.mark.parametrize(
    "expression",
    [
        'has(traits.a) && traits.a > 3 && traits.b == "x"',
        'traits.vip && !traits.tags.exists(t, t == "no" || size(t) > 3)',
        'last("A") - first("A") >= duration("2h") || last("A") > timestamp("2026-01-01T00:00:00Z")',
        'preference("email", "news") in ["daily", "weekly"] || preference("email") == null',
        '(count("A", "30d", "properties.x > 1 && properties.y") > 1 ? seen("B") : traits.c)',
        'sum("A", "x") / 2.0 - max("A", "x") * -1.0 > 1.0 || count("B") % 2 == 0',
        'count("A") == 1.0 && consent("a") == (seen("B") || true) && sum("A", "x") / 0.5 != 0',
        'first("A") != null && preference("email") == null && traits.x == seen("A")',
        '5 / (count("A") - count("B")) > 1 || sum("A", "x") / (count("A") - count("B")) > 1',
        'sum("A", "x") / count("A") > 5.0 && count("A") * 1.5 - 1 > 2',
        'type(traits.a) == double || type(traits.a) != string && traits.a.matches("[0-9]+")',
        '{"a": 1, "b": 2}.exists(k, k == traits.key) ? !seen("A") : seen("B") ? true : false',
    ],
)
def test_types_that_fit_pass(expression: str) -> None:
    read_expression(expression)
    check_types(expression)


@pytest.mark.parametrize(
    ("expression", "calls"),
    [
        ('count("A", "30d") >= 3', {Call("count", ("A", "30d"))}),
        ("seen('A') // seen('B')\n", {Call("seen", ("A",))}),
        ('seen(r"A\\n")', {Call("seen", ("A\\n",))}),
        ('seen("A\\n")', {Call("seen", ("A\n",))}),
        ('seen(")") && seen("\'")', {Call("seen", (")",)), Call("seen", ("'",))}),
        ('seen("""A"B""")', {Call("seen", ('A"B',))}),
        ("traits.count > 1", set()),
        ('traits.name == "seen(1)"', set()),
    ],
)
def test_the_calls_of_an_expression_are_found(expression: str, calls: set[Call]) -> None:
    assert read_expression(expression).calls == calls


@pytest.mark.parametrize(
    ("expression", "traits"),
    [
        ('traits.country == "JP"', {"country"}),
        ('traits["a b"] == 1 && has(traits . c)', {"a b", "c"}),
        ('traits.country.startsWith("J")', {"country"}),
        ("size(traits) > 1", None),
        ('traits.exists(name, name == "x")', None),
        ('"x" in traits', None),
        ("true", set()),
    ],
)
def test_the_traits_that_are_read_are_known_or_all(
    expression: str, traits: set[str] | None
) -> None:
    assert read_expression(expression).traits == traits


@pytest.mark.parametrize(
    "expression",
    [
        "traits.vip",
        'sum("A", "x") / double(count("A")) > 5.0',
        'min("A", "x") != null && min("A", "x") < 5',
        'last("A") - first("A") > duration("24h")',
        "traits.size > 3 && traits.names.exists(name, name.startsWith(traits.start))",
        'count("A", "30d", "properties.amount * 2 > 5 && properties.shop in [1, 2]") > 1',
    ],
)
def test_what_may_be_true_of_somebody_is_taken(expression: str) -> None:
    assert read_expression(expression).source == expression


@given(st.text(max_size=60) | st.text(alphabet='seen(")traits.x&|! \n\'"', max_size=60))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    with suppress(InvalidExpression):
        assert read_expression(text).source == text
