"""Read model: the clock of the log, the greatest time recorded up to the checkpoint (R15).

Table `clock`: one row, {at}. Every event that can be read moves it, also one that is held back;
`facts_session.py` does so, because what is due fires before the event is applied. Views judge
consent and drop fast context by it. Table `clock_marks`: every `MARK_EVERY_REVISIONS`-th revision
-> {at}: where to look for a past time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from domain.event import Event, Recorded
from domain.workspace_events import ClockAdvanced
from projections.instants import instant, instant_text, time_of
from projections.rows import Row
from projections.tables import ReadTables, Tables

CLOCK = "clock"
CLOCK_MARKS = "clock_marks"
TABLES = (CLOCK, CLOCK_MARKS)
KEY = b"workspace"

MARK_EVERY_REVISIONS = 256
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clock showed after an event."""

    revision: int = 0
    at: datetime = BEGINNING


class LogTimes:
    """What the log's clock shows after each event from one on, as microseconds since the year 1."""

    def __init__(self, shown: Sequence[int], *, first_revision: int = 1) -> None:
        self._shown = shown
        self.first_revision = first_revision

    @property
    def last_revision(self) -> int:
        """The last event of which it is known."""
        return self.first_revision + len(self._shown) - 1

    def after(self, revision: int) -> datetime:
        """Say what it shows after an event."""
        return time_of(self._shown[revision - self.first_revision])

    def reached(self, instant: int) -> int:
        """Say by which event it came to an instant."""
        return bisect_left(self._shown, instant) + self.first_revision


def read_clock(tables: ReadTables) -> datetime:
    """Read the clock; the beginning of time, before the first event."""
    row = tables.get(CLOCK, KEY)
    return BEGINNING if row is None else instant(row["at"])


def move_clock(tables: Tables, at: datetime) -> None:
    """Set the clock, which never goes back."""
    tables.put(CLOCK, KEY, {"at": instant_text(at)})


def time_moved_to(event: Recorded[Event]) -> datetime:
    """Say to which time an event moves the clock, if it is behind."""
    if not isinstance(event.body, ClockAdvanced):
        return event.recorded_at
    to = event.body.to
    return max(event.recorded_at, to if to.tzinfo else to.replace(tzinfo=UTC))


def is_marked(revision: int) -> bool:
    """Say whether it is noted what the clock shows after a revision."""
    return revision % MARK_EVERY_REVISIONS == 0


def mark_clock(tables: Tables, revision: int, at: datetime) -> None:
    """Note what the clock shows after a revision."""
    tables.put(CLOCK_MARKS, _mark(revision), {"at": instant_text(at)})


def clock_rows(after: Callable[[int], datetime], revision: int) -> Iterator[tuple[str, bytes, Row]]:
    """Give the rows that a whole fold up to a revision has here: table, key and row."""
    if not revision:
        return
    if after(revision) > BEGINNING:
        yield CLOCK, KEY, {"at": instant_text(after(revision))}
    for marked in range(MARK_EVERY_REVISIONS, revision + 1, MARK_EVERY_REVISIONS):
        yield CLOCK_MARKS, _mark(marked), {"at": instant_text(after(marked))}


def read_before_revision(tables: ReadTables, revision: int) -> Reading:
    """Give the last mark that is not behind a revision."""
    last = min(revision, tables.checkpoint.revision)
    return _read_mark(tables, last // MARK_EVERY_REVISIONS)


def read_before_time(tables: ReadTables, time: datetime) -> Reading:
    """Give the last mark at which the clock had not passed a time."""
    marks = range(1, tables.checkpoint.revision // MARK_EVERY_REVISIONS + 1)
    passed = bisect_right(marks, time, key=lambda number: _read_mark(tables, number).at)
    return _read_mark(tables, passed)


def _read_mark(tables: ReadTables, number: int) -> Reading:
    revision = number * MARK_EVERY_REVISIONS
    row = tables.get(CLOCK_MARKS, _mark(revision)) if number else None
    return Reading() if row is None else Reading(revision, instant(row["at"]))


def _mark(revision: int) -> bytes:
    return f"{revision:020d}".encode()
