"""Read JSON that a stranger sent, and refuse what later stages could not carry. Pure.

Used by the decoders of intake. Refuses deep nesting, numbers beyond 64-bit integers and finite
doubles, broken texts, and unprintable or endless keys, each for a stable reason.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from actors.intake.identifiers import has_unprintable
from domain.errors import Invalid

NESTING_MAX = 16
KEY_CHARACTERS_MAX = 256
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1


def parse_json(data: bytes) -> Any:  # noqa: ANN401  # a publisher's JSON, before it is checked
    """Parse bytes, or raise `Invalid` / MALFORMED_JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Invalid("MALFORMED_JSON", "the data is not JSON in UTF-8") from None


def check_json(value: object) -> None:
    """Accept a parsed value, or raise `Invalid` / INVALID_PROPERTIES."""
    _check(value, NESTING_MAX)


def _check(value: object, levels_left: int) -> None:
    match value:
        case None | bool():
            return
        case str():
            _check_text(value)
        case int() | float():
            _check_number(value)
        case dict():
            _check_nesting(levels_left)
            for key, inner in value.items():
                _check_key(key)
                _check(inner, levels_left - 1)
        case list():
            _check_nesting(levels_left)
            for inner in value:
                _check(inner, levels_left - 1)
        case _:
            raise _invalid("a value is not one of JSON")


def _check_number(number: float) -> None:
    if isinstance(number, int) and not INTEGER_MIN <= number <= INTEGER_MAX:
        raise _invalid("a whole number does not fit 64 bits")
    if not math.isfinite(number):
        raise _invalid("a number is not finite")


def _check_nesting(levels_left: int) -> None:
    if levels_left <= 0:
        raise _invalid(f"values are nested more than {NESTING_MAX} deep")


def _check_key(key: object) -> None:
    if not isinstance(key, str) or len(key) > KEY_CHARACTERS_MAX or has_unprintable(key):
        raise _invalid("a key is too long or unprintable")


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid("a text holds half a character") from None


def _invalid(message: str) -> Invalid:
    return Invalid("INVALID_PROPERTIES", message)
