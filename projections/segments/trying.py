"""Whether an expression can give true or false at all: it is tried on made-up people.

The library finds wrong types only when it evaluates. Our functions give values of known types, so a
few people of whom everything is so, and of whom nothing is, show most of what can never be
answered. Of traits and properties nothing is known here: what fails for the want of one is let be.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import cel

from projections.segments.errors import ExpressionFault
from projections.segments.running import run
from projections.segments.vocabulary import SIGNATURES

WRONG_TYPE, NOT_TRUE_OR_FALSE = "WRONG_TYPE", "NOT_TRUE_OR_FALSE"
ALWAYS_FAILS = "ALWAYS_FAILS"
_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_WORDS = {"preference": "daily"}
_TIMES = frozenset({"first", "last"})
_NUMBERS = frozenset({"sum", "min", "max"})


def fault_of(program: cel.Program) -> ExpressionFault | None:
    """Say why a program can never be the rule of a segment, or a filter; None where it may be."""
    for is_so in (True, False):
        try:
            found = run(program, _person(is_so=is_so))
        except TypeError as error:
            kind = str(error).partition(".")[0].partition(":")[0]
            return ExpressionFault(WRONG_TYPE, f"its types do not fit together: {kind}")
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001, S112  # such as a trait that is missing
            continue
        if not isinstance(found, bool):
            return ExpressionFault(NOT_TRUE_OR_FALSE, "it gives neither true nor false")
    return None


def fault_of_part(program: cel.Program) -> ExpressionFault | None:
    """Say why a part of a rule can never be of use: as `fault_of`, or a constant that fails."""
    fault = fault_of(program)
    if (
        fault is not None
        or program.variables()
        or not SIGNATURES.keys().isdisjoint(program.functions())
    ):
        return fault
    try:
        run(program, cel.Context())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # whatever it is, it is for everybody
        return ExpressionFault(ALWAYS_FAILS, "it fails, whatever is known of somebody")
    return None


def _person(*, is_so: bool) -> cel.Context:
    functions = {name: _function(name, is_so=is_so) for name in SIGNATURES}
    context = cel.Context(functions=functions)
    context.set_variable_resolver(lambda _name: {})
    return context


def _function(name: str, *, is_so: bool) -> Callable[..., object]:
    value: object = is_so
    if name == "count":
        value = 1 if is_so else 2
    elif name in _NUMBERS:
        value = 1.0 if is_so else 2.0
    elif name in _TIMES:
        value = _SOME_TIME
    elif name in _WORDS:
        value = _WORDS[name]
    return lambda *_arguments: value
