"""The words of a CEL expression, with their places: what the library does not tell.

Not a parser: the library alone decides what an expression means. This finds which literals stand in
the calls of our vocabulary. A call that it misread is refused when it is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
    | (?P<text>
        [rR](?:\"\"\"(?:.|\n)*?\"\"\"|'''(?:.|\n)*?'''|"[^"\n]*"|'[^'\n]*')
        | (?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
            |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      )
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>0[xX][0-9A-Fa-f]+[uU]?
        | (?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]?
      )
    | (?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])
    | (?P<unknown>(?:.|\n))
    """,
    re.VERBOSE,
)
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")


class Token(NamedTuple):
    """A word and the offset of its first character; kind: text, name, number, sign or unknown."""

    kind: str
    text: str
    offset: int


def tokens(source: str) -> Iterator[Token]:
    """Yield the words of an expression, without space and comments."""
    for found in _TOKEN.finditer(source):
        kind = found.lastgroup or "unknown"
        if kind != "space":
            yield Token(kind, found.group(), found.start())


def ends_operand(words: Sequence[Token], index: int) -> bool:
    """Say whether an operand ends before a place: a sign there stands between two, or goes on."""
    if index == 0:
        return False
    before = words[index - 1]
    if before.kind == "sign":
        return before.text in CLOSING
    return before.text != "in"


def place(source: str, offset: int) -> tuple[int, int]:
    """Give line and column, both from 1, of an offset."""
    line_start = source.rfind("\n", 0, offset) + 1
    return source.count("\n", 0, offset) + 1, offset - line_start + 1
