"""What stands for the value of a trait in the keys of an index.

Of a personal trait it is an HMAC, which answers equality only. Of a trait that was declared open it
is the value itself, in a form that sorts as the values do. Equality is that of JSON, where 1 and
1.0 are one number and true is none.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import orjson
from pydantic import JsonValue

OPEN_TEXT_BYTES_MAX = 200
"""Of a longer text so much stands in a key, and a digest of it."""

BOUND_BYTES_MAX = OPEN_TEXT_BYTES_MAX - 4
"""Of a text that ends a range: shorter than what stands of any text that was cut."""

INTEGER_TEXT_MAX = 64
WHOLE_MAX = 1 << 64
HMAC_CHARACTERS = 40
_SHORT, _END = b"=", b"\x00"
_ESCAPES = ((b"\x01", b"\x01\x02"), (b"\x00", b"\x01\x01"))

Scalar = int | float | str


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers, or texts, between two bounds of the same kind; at least one of them is given."""

    lower: Scalar | None = None
    upper: Scalar | None = None
    includes_lower: bool = True
    includes_upper: bool = True

    def holds(self, value: Scalar, *, is_cut: bool = False) -> bool:
        """Say whether a value is within; a text that was cut is longer than any bound."""
        if self.lower is not None:
            is_above = value > self.lower or (is_cut and value == self.lower)  # type: ignore[operator]  # of one kind
            if not (is_above or (self.includes_lower and value == self.lower)):
                return False
        if self.upper is not None:
            is_below = value < self.upper  # type: ignore[operator]  # of one kind
            is_bound = self.includes_upper and value == self.upper and not is_cut
            return is_below or is_bound
        return True

    @property
    def kind(self) -> bytes:
        """The first byte of the keys of such values."""
        return _kind(self.upper if self.lower is None else self.lower)


def value_key(value: JsonValue, *, trait: str, index_key: bytes, is_open: bool) -> bytes:
    """Give what stands for a value in an index over a trait."""
    if is_open:
        return _open_key(value)
    told = trait.encode("utf-8", "surrogatepass") + _END + _canonical(value)
    return b"h" + hmac.digest(index_key, told, "sha256").hex()[:HMAC_CHARACTERS].encode()


def range_start(within: Range) -> bytes:
    """Give the first key that a value within a range may have in an index of open values."""
    if within.lower is None:
        return within.kind
    if isinstance(within.lower, str):
        return b"s" + _escaped(_encoded(within.lower))
    return b"n" + _sortable(within.lower)


def is_behind(key: bytes, within: Range) -> bool:
    """Say whether a key, and all that come after it, stand for values above a range."""
    if not key.startswith(within.kind):
        return True
    if within.upper is None:
        return False
    if isinstance(within.upper, str):
        return key[1:].partition(_END)[0] > _escaped(_encoded(within.upper))
    return key[1:17] > _sortable(within.upper)


def is_within(key: bytes, within: Range) -> bool:
    """Say whether the value that a key of an index of open values stands for is within a range."""
    if not key.startswith(within.kind):
        return False
    if within.kind == b"n":
        text = key[17:]
        return within.holds(int(text) if text.lstrip(b"-").isdigit() else float(text))
    text, _, rest = key[1:].partition(_END)
    for byte, escape in reversed(_ESCAPES):
        text = text.replace(escape, byte)
    return within.holds(text.decode("utf-8", "surrogatepass"), is_cut=rest != _SHORT)


def _kind(value: Scalar | None) -> bytes:
    return b"s" if isinstance(value, str) else b"n"


def _open_key(value: JsonValue) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return b"j" + sha256(_canonical(value)).hexdigest().encode()
    if isinstance(value, str):
        return _open_text(value)
    text = _number(value)
    if len(text) > INTEGER_TEXT_MAX:  # far beyond a double: equality only
        return b"j" + sha256(_canonical(value)).hexdigest().encode()
    return b"n" + _sortable(value) + text


def _open_text(text: str) -> bytes:
    whole = _encoded(text)
    if len(whole) <= OPEN_TEXT_BYTES_MAX:
        return b"s" + _escaped(whole) + _END + _SHORT
    start = whole[:OPEN_TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()
    return b"s" + _escaped(start) + _END + sha256(whole).hexdigest().encode()


def _escaped(text: bytes) -> bytes:
    """Write a text without the byte that ends it in a key, and in the same order."""
    for byte, escape in _ESCAPES:
        text = text.replace(byte, escape)
    return text


def _canonical(value: JsonValue) -> bytes:
    match value:
        case str():
            return b"s" + _encoded(value)
        case bool() | None:
            return b"j" + orjson.dumps(value)
        case int() | float():
            return b"n" + _number(value)
        case list():
            return b"l" + b"".join(_framed(_canonical(item)) for item in value)
        case _:
            return b"m" + b"".join(_members(value))


def _members(value: dict[str, JsonValue]) -> Iterator[bytes]:
    for name in sorted(value):
        yield _framed(_encoded(name))
        yield _framed(_canonical(value[name]))


def _framed(part: bytes) -> bytes:
    return str(len(part)).encode() + b":" + part


def _number(value: float) -> bytes:
    """Write a number in its one form: a whole one with its digits, if they are few."""
    whole = int(value)
    if whole == value and (abs(whole) < WHOLE_MAX or whole != _double(whole)):
        return str(whole).encode()
    return repr(float(value)).encode()


def _sortable(value: float) -> bytes:
    """Give 16 digits that sort as the doubles nearest to numbers do."""
    [bits] = struct.unpack(">Q", struct.pack(">d", _double(value) + 0.0))
    flipped = bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63)
    return f"{flipped:016x}".encode()


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
