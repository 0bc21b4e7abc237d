"""Where in an expression types do not fit: the smallest part that fails when it is tried alone.

The library says that they do not, and not where. Not a parser: it takes an expression apart at its
operators, as far as brackets and signs show them, and the library judges each part. Where no part
fails alone, the fault is where they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from projections.segments.tokens import Token

Judge = Callable[[str], str | None]
"""Tries a part: the reason why it can be no rule, or None."""

WRONG_TYPE, NOT_TRUE_OR_FALSE = "WRONG_TYPE", "NOT_TRUE_OR_FALSE"
_TERNARY = frozenset({"?", ":"})
_LOGICAL = (frozenset({"||"}), frozenset({"&&"}))
_OTHERS = (
    frozenset({"==", "!=", "<", "<=", ">", ">=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
_UNARY = frozenset({"!", "-"})
_OPEN, _CLOSED = frozenset("([{"), frozenset(")]}")

Words = Sequence[Token]


def place_of_fault(source: str, words: Words, *, reason: str, judge: Judge) -> int:
    """Give the offset of the smallest part that is at fault for a reason."""
    part = words
    while True:
        inner, reason = _part_at_fault(source, _unwrapped(part), reason=reason, judge=judge)
        if inner is None:
            return part[0].offset
        part = inner


def _part_at_fault(
    source: str, part: Words, *, reason: str, judge: Judge
) -> tuple[Words | None, str]:
    operators, operands = _apart(part)
    judged = [(operand, judge(_text(source, operand))) for operand in operands]
    for operand, found in judged:
        if found == reason == WRONG_TYPE:
            return operand, found
    for operand in _that_must_be_true_or_false(operators, judged, reason=reason):
        return operand, NOT_TRUE_OR_FALSE
    return None, reason


def _that_must_be_true_or_false(
    operators: frozenset[str], judged: Sequence[tuple[Words, str | None]], *, reason: str
) -> Iterator[Words]:
    """Yield what is neither and has to be, for the whole is."""
    if operators == _TERNARY:  # what stands before `?`; where the whole fails to be, what it gives
        judged = judged[1:] if reason == NOT_TRUE_OR_FALSE else judged[:1]
    elif operators not in _LOGICAL and operators != {"!"}:
        return
    yield from (operand for operand, found in judged if found == NOT_TRUE_OR_FALSE)


def _apart(part: Words) -> tuple[frozenset[str], list[Words]]:
    """Take a part apart at its loosest operators."""
    if any(word.text == "?" for _, word in _outside_brackets(part)):
        return _TERNARY, _split(part, _TERNARY)
    for operators in (*_LOGICAL, *_OTHERS):
        operands = _split(part, operators)
        if len(operands) > 1:
            return operators, operands
    if part[0].kind == "sign" and part[0].text in _UNARY and len(part) > 1:
        return frozenset({part[0].text}), [part[1:]]
    return frozenset(), []


def _split(part: Words, operators: frozenset[str]) -> list[Words]:
    operands, begun = list[Words](), 0
    for index, word in _outside_brackets(part):
        if word.text in operators and word.kind != "text" and _ends_operand(part, index):
            operands.append(part[begun:index])
            begun = index + 1
    operands.append(part[begun:])
    return [operand for operand in operands if operand]


def _ends_operand(part: Words, index: int) -> bool:
    """Say whether an operand ends before a place: a sign there stands between two."""
    if index == 0:
        return False
    before = part[index - 1]
    return before.kind in {"name", "text", "number"} or before.text in _CLOSED


def _outside_brackets(part: Words) -> Iterator[tuple[int, Token]]:
    depth = 0
    for index, word in enumerate(part):
        if word.kind == "sign" and word.text in _CLOSED:
            depth -= 1
        if depth == 0:
            yield index, word
        if word.kind == "sign" and word.text in _OPEN:
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
