"""Where in an expression types do not fit: the smallest part that fails when it is tried alone.

The library says that they do not, and not where; and of what a short circuit passes over it says
nothing. Not a parser: it takes an expression apart at its operators, as far as brackets and signs
show them, and the library judges each part. Where none fails alone, the fault is where they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from projections.segments.errors import ExpressionFault
from projections.segments.tokens import CLOSING, OPENING, Token, ends_operand
from projections.segments.trying import NOT_TRUE_OR_FALSE


@dataclass(frozen=True, slots=True)
class Judge:
    """Tries a part, or two that are compared: why it can be no rule, or None."""

    part: Callable[[str], ExpressionFault | None]
    equality: Callable[[str, str], ExpressionFault | None]


_TERNARY = frozenset({"?", ":"})
_NOT = "!"
_LOGICAL = (frozenset({"||"}), frozenset({"&&"}))
_EQUALITY = frozenset({"==", "!="})
_OTHERS = (
    frozenset({"==", "!=", "<", "<=", ">", ">=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
_UNARY = frozenset({_NOT, "-"})

Words = Sequence[Token]


class _Role(Enum):
    """What a part is to give."""

    RESULT = auto()
    """What the whole gives: true or false."""
    TRUTH = auto()
    """True or false, for an operator."""
    VALUE = auto()
    """Anything that fits."""


def fault_in(
    source: str, words: Words, *, judge: Judge, role: _Role = _Role.RESULT
) -> tuple[int, ExpressionFault] | None:
    """Give the offset of the smallest part that is at fault, and why; None where all fit."""
    part = _unwrapped(words)
    operators, operands = _apart(part)
    for number, operand in enumerate(operands):
        inner = _role_of(operators, number, role=role)
        if found := fault_in(source, operand, judge=judge, role=inner):
            return found
    text = _text(source, part)
    fault = judge.part(f"{_NOT}({text})" if role is _Role.TRUTH else text)
    if fault is None and _is_equality(part, operands):
        fault = judge.equality(*(_text(source, operand) for operand in operands))
    if fault is None or (fault.reason == NOT_TRUE_OR_FALSE and role is not _Role.RESULT):
        return None
    return words[0].offset, fault


def _is_equality(part: Words, operands: list[Words]) -> bool:
    if len(operands) != 2:  # noqa: PLR2004  # one on either side
        return False
    return part[len(operands[0])].text in _EQUALITY


def _role_of(operators: frozenset[str], number: int, *, role: _Role) -> _Role:
    """Say what an operand is to give, where the whole has a role."""
    if operators in _LOGICAL or operators == {_NOT}:
        return _Role.TRUTH
    if operators == _TERNARY:
        return role if number else _Role.TRUTH
    return _Role.VALUE


def _apart(part: Words) -> tuple[frozenset[str], list[Words]]:
    """Take a part apart at its loosest operators."""
    for operators in (_TERNARY, *_LOGICAL, *_OTHERS):
        operands = _split(part, operators)
        if len(operands) > 1:
            return operators, operands
    if part[0].kind == "sign" and part[0].text in _UNARY and len(part) > 1:
        return frozenset({part[0].text}), [part[1:]]
    return frozenset(), []


def _split(part: Words, operators: frozenset[str]) -> list[Words]:
    operands, begun = list[Words](), 0
    for index, word in _outside_brackets(part):
        if word.text in operators and word.kind != "text" and ends_operand(part, index):
            operands.append(part[begun:index])
            begun = index + 1
    operands.append(part[begun:])
    return [operand for operand in operands if operand]


def _outside_brackets(part: Words) -> Iterator[tuple[int, Token]]:
    depth = 0
    for index, word in enumerate(part):
        if word.kind == "sign" and word.text in CLOSING:
            depth -= 1
        if depth == 0:
            yield index, word
        if word.kind == "sign" and word.text in OPENING:
            depth += 1


def _unwrapped(part: Words) -> Words:
    """Take the brackets off that are around the whole of a part."""
    while len(part) > 2 and part[0].text == "(" and part[-1].text == ")":  # noqa: PLR2004  # both
        outside = [index for index, _ in _outside_brackets(part)]
        if outside != [0, len(part) - 1]:
            return part
        part = part[1:-1]
    return part


def _text(source: str, part: Words) -> str:
    return source[part[0].offset : part[-1].offset + len(part[-1].text)]
