"""The clock of the log, and the instants at which an answer changes by itself (R15).

Table `clock`: one row, {at}. Table `timers`: instant/root -> {}: one row for each customer with
such an instant, its next. Instants are microseconds since the year 1.
"""

from __future__ import annotations

from datetime import UTC

from domain.event import Event, Recorded
from domain.ids import RecordId
from domain.workspace_events import ClockAdvanced
from projections.instants import microseconds
from projections.tables import ReadTables, Tables

CLOCK = "clock"
TIMERS = "timers"
TABLES = (CLOCK, TIMERS)
_KEY = b"workspace"


def read_clock(tables: ReadTables) -> int:
    """Read the greatest recorded time so far."""
    row = tables.get(CLOCK, _KEY)
    return 0 if row is None else int(row["at"])


def write_clock(tables: Tables, at: int) -> None:
    """Move the clock."""
    tables.put(CLOCK, _KEY, {"at": at})


def time_moved_to(event: Recorded[Event]) -> int:
    """Say to which time an event moves the clock, if it is behind."""
    recorded = microseconds(event.recorded_at)
    if not isinstance(event.body, ClockAdvanced):
        return recorded
    to = event.body.to
    return max(recorded, microseconds(to if to.tzinfo else to.replace(tzinfo=UTC)))


def first_due(tables: ReadTables) -> int | None:
    """Give the earliest instant at which anything is due; the steward advances the clock to it."""
    for key, _ in tables.scan(TIMERS, b""):
        return int(key.split(b"/")[0])
    return None


def due_at(tables: ReadTables, instant: int) -> list[RecordId]:
    """Name the customers with this very instant, in order."""
    prefix = _place(instant, "")
    return [RecordId(key[len(prefix) :].decode()) for key, _ in tables.scan(TIMERS, prefix)]


def move(tables: Tables, root: RecordId, before: int | None, after: int | None) -> None:
    """Set a customer's next instant anew."""
    if before == after:
        return
    if before is not None:
        tables.delete(TIMERS, _place(before, root))
    if after is not None:
        tables.put(TIMERS, _place(after, root), {})


def _place(instant: int, root: str) -> bytes:
    return f"{instant:018d}/{root}".encode()
