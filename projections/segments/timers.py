"""The instants at which an answer changes by itself (R15).

Table `timers`: instant/root -> {}: one row for each customer with such an instant, its next.
Instants are microseconds since the year 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from domain.ids import RecordId
from projections.tables import ReadTables, Tables

TIMERS = "timers"
TABLES = (TIMERS,)

Concerns = Callable[[RecordId], bool]
"""Says whether a customer's instants are looked at: of a part, those of some customers are."""


def concerns_all(_root: RecordId) -> bool:
    """Look at all instants."""
    return True


def first_due(tables: ReadTables) -> int | None:
    """Give the earliest instant at which anything is due; the steward advances the clock to it."""
    return next((instant for instant, _ in _timers(tables, b"")), None)


def next_due(
    tables: Tables, *, after: int, until: int | None = None, concerns: Concerns = concerns_all
) -> int | None:
    """Give the earliest instant after one, up to which everything has been done."""
    for instant, root in map(_read_place, tables.keys_from(TIMERS, _place(after + 1, ""))):
        if until is not None and instant > until:
            return None
        if concerns(root):
            return instant
    return None


def due_until(
    tables: ReadTables, instant: int, *, after: int = 0, concerns: Concerns = concerns_all
) -> Iterator[RecordId]:
    """Yield the customers with an instant up to this one, and after another one."""
    for due, root in _timers(tables, b"", start=_place(after + 1, "")):
        if due > instant:
            return
        if concerns(root):
            yield root


def due_at(
    tables: ReadTables, instant: int, *, customers_max: int, concerns: Concerns = concerns_all
) -> list[RecordId]:
    """Name customers with this very instant, the first so many in order."""
    found = (root for _, root in _timers(tables, _place(instant, "")) if concerns(root))
    return list(islice(found, customers_max))


def move(tables: Tables, root: RecordId, *, before: int | None, after: int | None) -> None:
    """Set a customer's next instant anew."""
    if before == after:
        return
    if before is not None:
        tables.delete(TIMERS, _place(before, root))
    if after is not None:
        tables.add(TIMERS, _place(after, root), {})


def _timers(
    tables: ReadTables, prefix: bytes, *, start: bytes = b""
) -> Iterator[tuple[int, RecordId]]:
    return (_read_place(key) for key, _ in tables.scan(TIMERS, prefix, start=start))


def _read_place(key: bytes) -> tuple[int, RecordId]:
    instant, _, root = key.decode().partition("/")
    return int(instant), RecordId(root)


def _place(instant: int, root: str) -> bytes:
    return f"{instant:018d}/{root}".encode()
