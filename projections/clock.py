"""Read model: the clock of the log, the greatest time recorded up to the checkpoint (R15).

Table `clock`: one row, {at}. Every event that can be read moves it, also one that is held back;
`segments/session.py` does so, because what is due fires before the event is applied. Views judge
consent and drop fast context by it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from domain.event import Event, Recorded
from domain.workspace_events import ClockAdvanced
from projections.instants import instant, instant_text
from projections.tables import ReadTables, Tables

CLOCK = "clock"
TABLES = (CLOCK,)
_KEY = b"workspace"


def read_clock(tables: ReadTables) -> datetime:
    """Read the clock; the beginning of time, before the first event."""
    row = tables.get(CLOCK, _KEY)
    return datetime.min.replace(tzinfo=UTC) if row is None else instant(row["at"])


def move_clock(tables: Tables, at: datetime) -> None:
    """Set the clock, which never goes back."""
    tables.put(CLOCK, _KEY, {"at": instant_text(at)})


def time_moved_to(event: Recorded[Event]) -> datetime:
    """Say to which time an event moves the clock, if it is behind."""
    if not isinstance(event.body, ClockAdvanced):
        return event.recorded_at
    to = event.body.to
    return max(event.recorded_at, to if to.tzinfo else to.replace(tzinfo=UTC))
