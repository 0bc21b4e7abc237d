"""Literals that can mean nothing where they stand: a divisor of zero, a pattern that is none.

Found from the words of an expression, where it is defined; no run on a made-up person gets as far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from projections.segments.errors import ExpressionFault
from projections.segments.running import Budget, Program
from projections.segments.tokens import Token
from projections.segments.trying import ALWAYS_FAILS, person

_DIVIDING = frozenset({"/", "%"})
_PATTERN = ["matches", "("]


def faults_of_literals(words: Sequence[Token]) -> Iterator[tuple[int, ExpressionFault]]:
    """Yield the offset of each literal that means nothing, and why."""
    for before, word in pairwise(words):
        if word.kind == "number" and before.text in _DIVIDING and _is_zero(word.text):
            yield word.offset, ExpressionFault(ALWAYS_FAILS, "nothing is divided by zero")
    for name, opened, word, after in zip(words, words[1:], words[2:], words[3:], strict=False):
        is_whole = word.kind == "text" and after.text == ")"
        if is_whole and [name.text, opened.text] == _PATTERN and not _is_pattern(word.text):
            yield word.offset, ExpressionFault("BAD_ARGUMENT", "this is no regular expression")


def _is_zero(number: str) -> bool:
    digits = number.rstrip("uU").lower()
    return (int(digits, 16) if digits.startswith("0x") else float(digits)) == 0


def _is_pattern(literal: str) -> bool:
    try:
        Program(f'"".matches({literal})').run(person(is_so=True), Budget())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # as the library says that it is none
        return False
    return True
