"""Read model: the clock of the log, the greatest time recorded up to the checkpoint (R15).

Table `clock`: one row, {at}. Views judge consent and drop fast context by it.
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


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event: every event moves the clock, and never back."""
    reached = event.recorded_at
    if isinstance(event.body, ClockAdvanced):
        reached = max(reached, event.body.to)
    text = instant_text(reached)
    row = tables.get(CLOCK, _KEY)
    if row is None or row["at"] < text:
        tables.put(CLOCK, _KEY, {"at": text})


def read_clock(tables: ReadTables) -> datetime:
    """Read the clock; the beginning of time, before the first event."""
    row = tables.get(CLOCK, _KEY)
    return datetime.min.replace(tzinfo=UTC) if row is None else instant(row["at"])
