"""What goes along with a fold of facts alone: the clock, and whether anybody is parked.

Nobody is judged, so there are no memberships; `segments/session.py` adds them. The fold calls
`settle` and `advance` before the read models, `after` behind them, and `finish` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from domain.event import Event, Recorded
from eventlog.port import Entry
from projections import clock, parking
from projections.tables import Tables


class FactsSession:
    """Keeps the clock in step with one transaction over rows in memory."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._time = clock.read_clock(tables)
        self.is_anybody_parked = parking.is_anybody_parked(tables)
        """Or was, in this transaction."""
        self.revision = 0
        """Of the last event that was folded."""

    def need_keys(self, entries: Sequence[Entry]) -> None:
        """Ask at once for the keys of whoever is touched."""

    def settle(self, event: Recorded[Event]) -> None:
        """End the decision before, if the event is of another one."""

    def end_append(self) -> None:
        """End the decision: none goes on behind its append."""

    def advance(self, event: Recorded[Event]) -> None:
        """Let time pass to an event."""
        self.pass_time(clock.time_moved_to(event), event.revision)

    def pass_time(self, time: datetime, revision: int) -> None:  # noqa: ARG002  # who judges tells
        """Let time pass; what changes by it is told at a revision."""
        if time > self._time:
            self._time = time
            clock.move_clock(self._tables, time)

    def after(self, event: Recorded[Event]) -> None:
        """Note that an event was applied."""
        self.revision = event.revision

    def hold_back(self, entry: Entry) -> None:
        """Note that an event was not applied: whom it touches may be parked now."""
        self.is_anybody_parked = True
        self.revision = entry.revision

    def passed(self, revision: int) -> None:
        """Note that a revision was folded, whatever became of it."""

    def finish(self) -> None:
        """Store what is left; the rows are whole then."""
