"""The signals of records as one transaction reads them: each name's once, then kept in step.

Owned by the ledger of the transaction. What a record holds of a name is read when it is first asked
for, and no further back than was asked; what the transaction adds after that is put in its place.
So neither a long history nor many events in a batch are read for each of them. Nothing is unsealed
here but what an expression asks of a signal beside its time.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from domain.event import Event, Recorded
from domain.ids import OpenMap, RecordId
from domain.signal_events import SignalsRecorded
from domain.signals import SignalKey
from projections import copies, timeline
from projections.tables import ReadTables
from projections.timeline import Occurrence

Sight = frozenset[str] | None
"""The sources whose word counts; None: all of them."""

SIGNALS_HELD_MAX = 200_000
"""Signals held at a time, about 100 MB; beyond it the records are read again."""


@dataclass(slots=True)
class Series:
    """The signals of one name in order of time from an instant on, and their times."""

    start: int
    times: list[int] = field(default_factory=list)
    signals: list[Occurrence] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)

    def add(self, signal: Occurrence) -> None:
        """Put a signal in its place."""
        insort(self.signals, signal)
        insort(self.times, signal.at)
        self.sources.add(signal.source)


class Timelines:
    """Hold what was read of records, by name of signal."""

    def __init__(self, tables: ReadTables) -> None:
        self._tables = tables
        self._records: dict[RecordId, dict[str, Series]] = {}
        self._held = 0
        self.matches: dict[tuple[str, bytes], bool] = {}
        """Whether a filter (its source) holds for a record's copy of a signal (its place)."""

    def of(self, members: tuple[RecordId, ...], name: str, *, start: int) -> Series:
        """Give what the customer that these records form did of a name, each signal once.

        It goes back to `start` at least.
        """
        if len(members) == 1:
            return self._of_record(members[0], name, start)
        surplus = self.surplus(members)
        return series_of(
            (
                signal
                for member in members
                for signal in self._of_record(member, name, start).signals
                if signal.at >= start and (signal.record_id, signal.key) not in surplus
            ),
            start=start,
        )

    def surplus(self, members: tuple[RecordId, ...]) -> frozenset[tuple[RecordId, SignalKey]]:
        """Name the copies on these records that do not count where they are one customer's."""
        found = copies.surplus(self._tables, members)
        return frozenset((copy.record_id, copy.key) for copy in found)

    def properties(self, signal: Occurrence) -> OpenMap:
        """Unseal what a signal carried."""
        return timeline.properties_of(self._tables, signal)

    def follow(self, event: Recorded[Event], body: SignalsRecorded) -> None:
        """Add the signals that an event has just put on its record."""
        known = self._records.get(RecordId(event.stream.key))
        if known is None:
            return
        for name, signal in timeline.put_by(self._tables, event, body):
            series = known.get(name)
            if series is not None and signal.at >= series.start:
                series.add(signal)
                self._held += 1

    def forget(self, record_id: RecordId) -> None:
        """Read a record again when it is asked for."""
        self._records.pop(record_id, None)

    def forget_all(self) -> None:
        """Read every record again when it is asked for."""
        self._records.clear()
        self.matches.clear()
        self._held = 0

    def _of_record(self, record_id: RecordId, name: str, start: int) -> Series:
        by_name = self._records.setdefault(record_id, {})
        known = by_name.get(name)
        if known is None or start < known.start:
            if self._held > SIGNALS_HELD_MAX:
                self.forget_all()
                by_name = self._records.setdefault(record_id, {})
            read = timeline.occurrences(self._tables, record_id, name, start=start)
            known = by_name[name] = series_of(read, start=start)
            self._held += len(known.times)
        return known


def series_of(signals: Iterable[Occurrence], *, start: int) -> Series:
    """Make a series of signals in any order."""
    ordered = sorted(signals)
    times = [signal.at for signal in ordered]
    return Series(start, times, ordered, {signal.source for signal in ordered})


def seen_by(series: Series, sight: Sight) -> Series:
    """Give what a sight shows of a series."""
    if sight is None or series.sources <= sight:
        return series
    seen = (signal for signal in series.signals if signal.source in sight)
    return series_of(seen, start=series.start)
