"""An expression in doubles: its own source, with what it reckons with made doubles.

CEL knows no sum of a whole number and a double; `running.py` evaluates what failed once more as it
is written here. Not a parser: our functions give back all but whole numbers as they are, so that
what was misread here means what it meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from projections.segments.tokens import CLOSING, OPENING, Token, ends_operand, tokens

_DOUBLE, _DIVISORS = "as_double", "divisors"
_AROUND_OPERAND, _AROUND_DIVISOR = (f"{_DOUBLE}(", ")"), (f"{_DIVISORS}(", ")[0]")
_RECKONING = frozenset({"+", "-", "*", "/"})
_REMAINDER = "%"
"""It is of whole numbers only."""


def in_doubles(source: str) -> str:
    """Write an expression that is none of a user's: all that is summed or multiplied is a double.

    Of what is in the brackets of an index, whole numbers stay whole.
    """
    words = list(tokens(source))
    closed = _brackets(words)
    marks: list[tuple[int, str]] = []
    position = 0
    while position < len(words):
        if words[position].text == "[" and ends_operand(words, position):
            position = closed[position]
        elif _begins_operand(words, position):
            last = _end_of_operand(words, position, closed=closed)
            around = _around(words, position, last)
            if around is not None:
                end = words[last].offset + len(words[last].text)
                marks += [(words[position].offset, around[0]), (end, around[1])]
        position += 1
    return _inserted(source, marks)


def _as_double(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _divisors(value: object) -> list[object]:
    """Give a double, but no zero: to divide by it fails, as it does among whole numbers."""
    return [] if value == 0 else [_as_double(value)]


FUNCTIONS: Mapping[str, Callable[[object], object]] = {
    _DOUBLE: _as_double,
    _DIVISORS: _divisors,
}
"""What every context has for expressions that are written so."""


def _brackets(words: Sequence[Token]) -> dict[int, int]:
    """Give the place where each bracket that opens is closed."""
    closed: dict[int, int] = {}
    opened: list[int] = []
    for position, word in enumerate(words):
        if word.kind == "sign" and word.text in OPENING:
            opened.append(position)
        elif word.kind == "sign" and word.text in CLOSING and opened:
            closed[opened.pop()] = position
    return closed | dict.fromkeys(opened, len(words) - 1)


def _begins_operand(words: Sequence[Token], position: int) -> bool:
    word = words[position]
    if ends_operand(words, position) or (position > 0 and words[position - 1].text == "."):
        return False  # it goes on with one
    if word.kind == "sign":
        return word.text in OPENING
    return word.text != "in"


def _end_of_operand(words: Sequence[Token], position: int, *, closed: Mapping[int, int]) -> int:
    """Give the place of the last word of an operand, with its fields, indices and calls."""
    last = closed.get(position, position)
    while last + 1 < len(words):
        following = words[last + 1].text
        if following in {"(", "["}:
            last = closed[last + 1]
        elif following == "." and last + 2 < len(words):
            last += 2
        else:
            break
    return last


def _around(words: Sequence[Token], first: int, last: int) -> tuple[str, str] | None:
    """Give what makes a double of an operand, where it stands beside a sign of reckoning."""
    before = first - 1
    while before >= 0 and words[before].text in {"-", "!"} and not ends_operand(words, before):
        before -= 1
    beside = {words[at].text for at in (before, last + 1) if 0 <= at < len(words)}
    if _REMAINDER in beside or beside.isdisjoint(_RECKONING):
        return None
    return _AROUND_DIVISOR if before >= 0 and words[before].text == "/" else _AROUND_OPERAND


def _inserted(source: str, marks: list[tuple[int, str]]) -> str:
    written, begun = [], 0
    for offset, text in sorted(marks):
        written += [source[begun:offset], text]
        begun = offset
    return "".join([*written, source[begun:]])
