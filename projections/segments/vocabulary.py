"""The functions of our own in segment expressions: their arguments, windows and filters.

Every argument is a literal text, so that a segment's inputs are known before it is evaluated.
A window holds what is younger than it: at the instant `time + window` a signal has left it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, NoReturn

Argument = Literal[
    "signal", "property", "window", "filter", "purpose", "namespace", "segment", "channel", "topic"
]

EVER = "ever"
WINDOW_MAX_DAYS = 3_650
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_WINDOW = re.compile(r"([1-9][0-9]{0,9})([smhdw])")
_MICROSECONDS = 1_000_000
WINDOW_MAX = WINDOW_MAX_DAYS * 86_400 * _MICROSECONDS


Value = int | float | bool | str | datetime | None
"""What a call gives."""


class Call(NamedTuple):
    """A call of the vocabulary as it stands in an expression."""

    function: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        """Write it as an expression has it."""
        arguments = (json.dumps(argument, ensure_ascii=False) for argument in self.arguments)
        return f"{self.function}({', '.join(arguments)})"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes; arguments from `required` on may be left out, from the right."""

    arguments: tuple[Argument, ...]
    required: int


SIGNATURES = {
    "count": Signature(("signal", "window", "filter"), 1),
    "seen": Signature(("signal", "window", "filter"), 1),
    "first": Signature(("signal", "window", "filter"), 1),
    "last": Signature(("signal", "window", "filter"), 1),
    "sum": Signature(("signal", "property", "window", "filter"), 2),
    "min": Signature(("signal", "property", "window", "filter"), 2),
    "max": Signature(("signal", "property", "window", "filter"), 2),
    "sequence": Signature(("signal", "signal", "window", "signal", "window"), 3),
    "consent": Signature(("purpose",), 1),
    "identified": Signature(("namespace",), 1),
    "preference": Signature(("channel", "topic"), 1),
    "segment": Signature(("segment",), 1),
}
"""`sequence(first, then, within[, without[, window]])`: `without` may be the empty text, and so may
the topic of a preference, which then is that of the whole channel."""

AGGREGATES = frozenset({"count", "seen", "first", "last"})
_WITHIN, _WITHOUT = 3, 4
NUMERIC = frozenset({"sum", "min", "max"})


class BadArgument(ValueError):
    """An argument cannot mean anything; the message says why, the place which, from 1."""

    def __init__(self, message: str, place: int | None = None) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, slots=True)
class SignalRead:
    """What a call over one signal reads; the window in microseconds, None for ever."""

    function: str
    signal: str
    property: str | None
    window: int | None
    filter: str | None


@dataclass(frozen=True, slots=True)
class SequenceRead:
    """What a call of `sequence` reads, in microseconds."""

    first: str
    then: str
    within: int
    without: str | None
    window: int | None


Read = SignalRead | SequenceRead | str | tuple[str, ...]
"""What a call reads: of one that reads no signals its argument, or all where it takes several."""


def check_call(call: Call) -> None:
    """Require that a call's arguments can mean something; else `BadArgument`."""
    signature = SIGNATURES[call.function]
    least, most = signature.required, len(signature.arguments)
    if not least <= len(call.arguments) <= most:
        span = str(least) if least == most else f"{least} to {most}"
        _refuse(f"{call.function} takes {span} arguments, not {len(call.arguments)}")
    for place, (kind, value) in enumerate(
        zip(signature.arguments, call.arguments, strict=False), start=1
    ):
        if kind == "window":
            window_microseconds(value, place)
        elif not value and not _may_be_empty(call.function, kind, place):
            _refuse(f"argument {place} of {call.function} is empty", place)
    if call.function == "sequence" and window_microseconds(call.arguments[_WITHIN - 1]) is None:
        _refuse("what follows must follow within a window that ends, such as '2d'", _WITHIN)


def _may_be_empty(function: str, kind: Argument, place: int) -> bool:
    return kind == "topic" or (function == "sequence" and place == _WITHOUT)


def window_microseconds(text: str, place: int | None = None) -> int | None:
    """Read a window such as `30d` or `12h`; None for `ever`. Raises `BadArgument` of a place."""
    if text == EVER:
        return None
    found = _WINDOW.fullmatch(text)
    if found is None:
        _refuse("a window is a number and s, m, h, d or w, such as '30d', or 'ever'", place)
    microseconds = int(found[1]) * _UNITS[found[2]] * _MICROSECONDS
    if microseconds > WINDOW_MAX:
        _refuse(f"a window is at most {WINDOW_MAX_DAYS} days", place)
    return microseconds


def signal_read(call: Call) -> SignalRead:
    """Read a checked call over one signal."""
    named = call.arguments
    rest = named[2:] if call.function in NUMERIC else named[1:]
    return SignalRead(
        function=call.function,
        signal=named[0],
        property=named[1] if call.function in NUMERIC else None,
        window=window_microseconds(rest[0]) if rest else None,
        filter=rest[1] if len(rest) > 1 else None,
    )


def sequence_read(call: Call) -> SequenceRead:
    """Read a checked call of `sequence`."""
    first, then, within, *rest = call.arguments
    return SequenceRead(
        first=first,
        then=then,
        within=window_microseconds(within) or 0,
        without=rest[0] or None if rest else None,
        window=window_microseconds(rest[1]) if len(rest) > 1 else None,
    )


def read_of(call: Call) -> Read:
    """Read any checked call."""
    if call.function in AGGREGATES | NUMERIC:
        return signal_read(call)
    if call.function == "sequence":
        return sequence_read(call)
    takes_several = len(SIGNATURES[call.function].arguments) > 1
    return call.arguments if takes_several else call.arguments[0]


def reach_of(read: Read) -> int:
    """Say how far back from now a call reads signals, in microseconds."""
    match read:
        case SignalRead(window=window):
            return WINDOW_MAX if window is None else window
        case SequenceRead(within=within, window=window):
            return (WINDOW_MAX if window is None else window) + within
        case _:
            return 0


def signals_of(call: Call) -> tuple[str, ...]:
    """Name the signals that a call reads."""
    arguments = SIGNATURES[call.function].arguments
    named = zip(arguments, call.arguments, strict=False)
    return tuple(value for kind, value in named if kind == "signal" and value)


def _refuse(message: str, place: int | None = None) -> NoReturn:
    raise BadArgument(message, place)
