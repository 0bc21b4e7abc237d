"""How a CEL program is run: what it may cost, how it fails, and when it is reckoned in doubles.

A loop over a list asks for what it reads with every turn, so lists within lists would take for
ever: of what is handed to one run there is a budget. A panic of the library is no `Exception`; here
it becomes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import cel
from pydantic import JsonValue

from projections.segments.doubles import in_doubles

MEMBERS_MAX = 50_000
"""Of lists and maps that one run is handed, all turns of its loops together."""

_LOGICAL = frozenset({"_&&_", "_||_"})
"""As the library names them; loops are made of them too."""


class Budget:
    """What one run may still be handed."""

    def __init__(self) -> None:
        self._left = MEMBERS_MAX

    @property
    def is_spent(self) -> bool:
        """Whether more was asked for than there is."""
        return self._left < 0

    def renew(self) -> None:
        """Begin with the next run."""
        self._left = MEMBERS_MAX

    def hand_out(self, values: Mapping[str, JsonValue]) -> Mapping[str, JsonValue] | None:
        """Give values, or nothing more once the budget is spent."""
        self._left -= _members(values)
        return None if self._left < 0 else values


class Program:
    """A compiled expression, which is evaluated once more in doubles where it fails as it is."""

    def __init__(self, source: str) -> None:
        """Compile it; raises `ValueError`."""
        self._source = source
        self._as_it_is = cel.compile(source)
        self.variables = frozenset(self._as_it_is.variables())
        self.functions = frozenset(self._as_it_is.functions())
        self._hides_faults = not _LOGICAL.isdisjoint(self.functions)

    def run(self, context: cel.Context, budget: Budget) -> object:
        """Give what it gives.

        Raises `TypeError` where types do not fit, and whatever else the library raises as
        `Exception`. The context has the functions of `doubles.py`.
        """
        budget.renew()
        try:
            return _executed(self._as_it_is, context)
        except MemoryError:
            raise
        except Exception as fault:
            again = self._to_be_tried_after(fault)
            if again is None or budget.is_spent:
                raise
        budget.renew()
        return _executed(again, context)

    def _to_be_tried_after(self, fault: Exception) -> cel.Program | None:
        """Give the program in doubles; None where it would fail the same way.

        Of two operands that fail the library tells the fault of one: what is missing may hide
        numbers that do not fit.
        """
        is_missing = isinstance(fault, KeyError) and not self._hides_faults
        return None if is_missing else self._in_doubles

    @cached_property
    def _in_doubles(self) -> cel.Program | None:
        written = in_doubles(self._source)
        if written == self._source:
            return None
        try:
            return cel.compile(written)
        except ValueError:
            return None


def _executed(program: cel.Program, context: cel.Context) -> object:
    try:
        return program.execute(context)
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as panic:
        raise RuntimeError("the expression language's library failed") from panic


def _members(values: Mapping[str, JsonValue]) -> int:
    found, waiting = len(values), [v for v in values.values() if isinstance(v, (list, dict))]
    while waiting:
        members = waiting.pop()
        found += len(members)
        inner = members.values() if isinstance(members, dict) else members
        waiting += [member for member in inner if isinstance(member, (list, dict))]
    return found
