"""The signals of records as one transaction reads them: decoded once, then kept in step.

Owned by the ledger of the transaction. A record's rows are read at its first judgement; what the
transaction adds after that is put in its place, so a customer with many events in a batch is not
read from the rows for each of them.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from domain.event import Event, Recorded
from domain.ids import RecordId
from projections import timeline
from projections.tables import ReadTables
from projections.timeline import TimedSignal

Sight = frozenset[str] | None
"""The sources whose word counts; None: all of them."""

SIGNALS_HELD_MAX = 200_000
"""Signals decoded at a time, about 100 MB; beyond it the records are read again."""


@dataclass(frozen=True, slots=True)
class Series:
    """The signals of one name in order of time, their times, and who sent them."""

    times: list[int] = field(default_factory=list)
    signals: list[TimedSignal] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)

    def add(self, signal: TimedSignal) -> None:
        """Put a signal in its place."""
        insort(self.signals, signal, key=_order)
        insort(self.times, signal.at)
        self.sources.add(signal.source)


NOTHING = Series()
ByName = dict[str, Series]


class Timelines:
    """Hold what was read of records, by name of signal."""

    def __init__(self, tables: ReadTables) -> None:
        self._tables = tables
        self._records: dict[RecordId, ByName] = {}
        self._held = 0
        self.matches: dict[tuple[str, RecordId, str], bool] = {}
        """Whether a filter (its source) holds for a record's copy of a signal (its key)."""

    def of(self, members: tuple[RecordId, ...]) -> ByName:
        """Give the signals of the customer that these records form, each once."""
        if len(members) == 1:
            return self._of_record(members[0])
        copies = (
            signal
            for member in members
            for series in self._of_record(member).values()
            for signal in series.signals
        )
        return arrange(timeline.first_copies(copies))

    def follow(self, event: Recorded[Event]) -> None:
        """Add the signals that an event has just put on its record."""
        known = self._records.get(RecordId(event.stream.key))
        if known is None:
            return
        for signal in timeline.put_by(self._tables, event):
            known.setdefault(signal.name, Series()).add(signal)
            self._held += 1

    def forget(self, record_id: RecordId) -> None:
        """Read a record again when it is asked for."""
        self._records.pop(record_id, None)

    def _of_record(self, record_id: RecordId) -> ByName:
        known = self._records.get(record_id)
        if known is None:
            if self._held > SIGNALS_HELD_MAX:
                self._forget_all()
            known = arrange(timeline.copies(self._tables, record_id))
            self._records[record_id] = known
            self._held += sum(len(series.times) for series in known.values())
        return known

    def _forget_all(self) -> None:
        self._records.clear()
        self.matches.clear()
        self._held = 0


def arrange(signals: Iterable[TimedSignal]) -> ByName:
    """Sort signals that come in order of time by their names."""
    arranged: ByName = {}
    for signal in signals:
        series = arranged.get(signal.name)
        if series is None:
            series = arranged[signal.name] = Series()
        series.times.append(signal.at)
        series.signals.append(signal)
        series.sources.add(signal.source)
    return arranged


def seen_by(series: Series, sight: Sight) -> Series:
    """Give what a sight shows of a series."""
    if sight is None or series.sources <= sight:
        return series
    seen = [signal for signal in series.signals if signal.source in sight]
    return Series([s.at for s in seen], seen, {s.source for s in seen})


def _order(signal: TimedSignal) -> tuple[int, str]:
    return signal.at, signal.key
