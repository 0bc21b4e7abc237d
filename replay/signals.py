"""The signals that a log holds, by (source, message id): which were lost, which stand there twice.

Called by whoever knows what was published. Tells nothing of customers: see `projections.tallies`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from domain.signal_events import SignalsDeclined, SignalsRecorded
from domain.signals import SignalKey, signal_key
from eventlog.port import LogReader
from replay.fold import Progress, read_checked, silent


@dataclass(slots=True)
class SignalCensus:
    """How often each signal was recorded, and each declined; events that nobody can read."""

    recorded: Counter[SignalKey] = field(default_factory=Counter)
    declined: Counter[SignalKey] = field(default_factory=Counter)
    unreadable_events: int = 0
    revision: int = 0

    @property
    def distinct(self) -> int:
        """How many different signals were recorded."""
        return len(self.recorded)

    @property
    def duplicated(self) -> int:
        """How many signals were recorded more than once."""
        return sum(1 for count in self.recorded.values() if count > 1)

    def lost(self, published: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Name the (source, message id) pairs that were neither recorded nor declined."""
        return [
            pair
            for pair in published
            if (key := signal_key(*pair)) not in self.recorded and key not in self.declined
        ]


async def count_signals(
    log: LogReader, *, through_revision: int | None = None, progress: Progress = silent
) -> SignalCensus:
    """Count the signals of a log, every chain checked on the way."""
    census = SignalCensus()
    reading = read_checked(log, through_revision=through_revision, progress=progress)
    async with aclosing(reading) as batches:
        async for entries in batches:
            for entry in entries:
                if entry.event is None:
                    census.unreadable_events += 1
                else:
                    _count(census, entry.event.body)
            census.revision = entries[-1].revision
    return census


def _count(census: SignalCensus, body: object) -> None:
    match body:
        case SignalsRecorded(source=source, signals=signals):
            census.recorded.update(signal_key(source, signal.message_id) for signal in signals)
        case SignalsDeclined(source=source, message_ids=message_ids):
            census.declined.update(signal_key(source, message_id) for message_id in message_ids)
        case _:
            pass
