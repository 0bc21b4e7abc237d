"""The instants at which an answer changes by itself (R15).

Table `timers`: instant/root -> {}: one row for each customer with such an instant, its next.
Instants are microseconds since the year 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from domain.ids import RecordId
from projections.tables import ReadTables, Tables

TIMERS = "timers"
TABLES = (TIMERS,)


def first_due(tables: ReadTables) -> int | None:
    """Give the earliest instant at which anything is due; the steward advances the clock to it."""
    for key, _ in tables.scan(TIMERS, b""):
        return int(key.split(b"/")[0])
    return None


def due_until(tables: ReadTables, instant: int) -> Iterator[RecordId]:
    """Yield the customers with an instant up to this one."""
    for key, _ in tables.scan(TIMERS, b""):
        due, _, root = key.decode().partition("/")
        if int(due) > instant:
            return
        yield RecordId(root)


def due_at(tables: ReadTables, instant: int, *, customers_max: int) -> list[RecordId]:
    """Name customers with this very instant, the first so many in order."""
    prefix = _place(instant, "")
    found = islice(tables.scan(TIMERS, prefix), customers_max)
    return [RecordId(key[len(prefix) :].decode()) for key, _ in found]


def move(tables: Tables, root: RecordId, *, before: int | None, after: int | None) -> None:
    """Set a customer's next instant anew."""
    if before == after:
        return
    if before is not None:
        tables.delete(TIMERS, _place(before, root))
    if after is not None:
        tables.put(TIMERS, _place(after, root), {})


def _place(instant: int, root: str) -> bytes:
    return f"{instant:018d}/{root}".encode()
