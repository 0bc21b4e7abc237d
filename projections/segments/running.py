"""How a CEL program is run. A panic of the library is no `Exception`; here it becomes one."""

from __future__ import annotations

import cel


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
