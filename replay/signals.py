"""The signals that a log holds, by (source, message id): which were lost, which stand there twice.

Called by whoever knows what was published. Tells nothing of customers: see `projections.tallies`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby

from domain.signal_events import SignalsDeclined, SignalsRecorded
from domain.signals import SignalKey, signal_key
from eventlog.port import LogReader
from replay.fold import READ_EVENTS_MAX, Progress, read_checked, silent

KEY_DIGITS = 16
BUCKETS = 256
"""By the first two digits: what is sorted at once is a part of all."""


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


class SignalFigures:
    """How many signals a log holds; eight bytes of the key of each tell them apart."""

    def __init__(self) -> None:
        self._recorded = [array("Q") for _ in range(BUCKETS)]
        self._declined = [array("Q") for _ in range(BUCKETS)]

    def count(self, body: object) -> None:
        """Count what an event holds."""
        for buckets, keys in ((self._recorded, _recorded(body)), (self._declined, _declined(body))):
            for key in keys:
                buckets[int(key[:2], 16)].append(int(key[:KEY_DIGITS], 16))

    def report(self) -> dict[str, int]:
        """Say how many were recorded, how many of them more than once, and how many declined."""
        recorded, duplicated = _distinct(self._recorded)
        declined, _ = _distinct(self._declined)
        return {
            "signals_recorded": recorded,
            "signals_duplicated": duplicated,
            "signals_declined": declined,
        }


def _distinct(buckets: Sequence[array[int]]) -> tuple[int, int]:
    """Count different numbers, and those of them that stand there more than once."""
    distinct = repeated = 0
    for bucket in buckets:
        for _, found in groupby(sorted(bucket)):
            distinct += 1
            repeated += sum(1 for _ in found) > 1
    return distinct, repeated


async def signal_figures(log: LogReader, *, through_revision: int) -> dict[str, int]:
    """Count the signals of a log whose chains were checked already."""
    figures = SignalFigures()
    reading = log.read(through_revision=through_revision, batch_events_max=READ_EVENTS_MAX)
    async with aclosing(reading) as batches:  # type: ignore[type-var]  # generators, by contract
        async for entries in batches:
            for entry in entries:
                if entry.event is not None:
                    figures.count(entry.event.body)
    return figures.report()


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
    census.recorded.update(_recorded(body))
    census.declined.update(_declined(body))


def _recorded(body: object) -> Iterator[SignalKey]:
    if isinstance(body, SignalsRecorded):
        for signal in body.signals:
            yield signal_key(body.source, signal.message_id)


def _declined(body: object) -> Iterator[SignalKey]:
    if isinstance(body, SignalsDeclined):
        for message_id in body.message_ids:
            yield signal_key(body.source, message_id)
