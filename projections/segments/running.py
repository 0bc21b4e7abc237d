"""How a CEL program is run: what it may cost, and how it fails.

A loop over a list asks for what it reads with every turn, so lists within lists would take for
ever: of what is handed to one run there is a budget. A panic of the library is no `Exception`; here
it becomes one.
"""

from __future__ import annotations

from collections.abc import Mapping

import cel
from pydantic import JsonValue

MEMBERS_MAX = 50_000
"""Of lists and maps that one run is handed, all turns of its loops together."""


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


def run(program: cel.Program, context: cel.Context) -> object:
    """Give what a program gives.

    Raises `TypeError` where types do not fit, and whatever else the library raises as `Exception`.
    """
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
