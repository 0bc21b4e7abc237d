"""Whether an expression can give true or false at all: it is tried on made-up people.

The library finds wrong types only when it evaluates. Our functions give values of known types, so a
few people of whom everything is so, and of whom nothing is, show most of what can never be
answered. Of traits and properties nothing is known here: what fails for the want of one is let be.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import cel

from projections.segments.doubles import FUNCTIONS
from projections.segments.errors import ExpressionFault
from projections.segments.running import Budget, Program
from projections.segments.vocabulary import SIGNATURES

WRONG_TYPE, NOT_TRUE_OR_FALSE = "WRONG_TYPE", "NOT_TRUE_OR_FALSE"
ALWAYS_FAILS = "ALWAYS_FAILS"
_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_WORDS = {"preference": "daily"}
_TIMES = frozenset({"first", "last"})
_NOTHING = type(None)
"""Any of our functions that may give it is compared with it."""

TYPES = frozenset(
    {"int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"}
)
"""What the library knows as names of types, for `type(x) == double`."""

_NUMBERS = frozenset({"sum", "min", "max"})


def fault_of(program: Program) -> ExpressionFault | None:
    """Say why a program can never be the rule of a segment, or a filter; None where it may be."""
    for is_so in (True, False):
        try:
            found = program.run(person(is_so=is_so), Budget())
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


def fault_of_part(program: Program) -> ExpressionFault | None:
    """Say why a part of a rule can never be of use: as `fault_of`, or a constant that fails."""
    fault = fault_of(program)
    if (
        fault is not None
        or program.variables
        or not SIGNATURES.keys().isdisjoint(program.functions)
    ):
        return fault
    try:
        program.run(person(is_so=True), Budget())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # whatever it is, it is for everybody
        return ExpressionFault(ALWAYS_FAILS, "it fails, whatever is known of somebody")
    return None


def can_be_equal(one: Program, other: Program) -> bool:
    """Say whether two parts may give values of one type; one that fails may give any."""
    for is_so in (True, False):
        try:
            kinds = {_kind(part.run(person(is_so=is_so), Budget())) for part in (one, other)}
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # such as a trait that is missing
            return True
        if len(kinds) == 1 or _NOTHING in kinds:
            return True
    return False


def _kind(value: object) -> type:
    """Give the type of a value; numbers of every type are compared with each other."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def person(*, is_so: bool) -> cel.Context:
    """Make up somebody of whom everything is so, or nothing; without a trait."""
    functions = {name: _function(name, is_so=is_so) for name in SIGNATURES}
    context = cel.Context(functions={**functions, **FUNCTIONS})
    context.set_variable_resolver(lambda name: None if name in TYPES else {})
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
