"""The first look at a log that is to be folded in shares: chain, times, and who belongs together.

One pass over the events' places and envelopes, in order, without keys: every chain and D(r) are
checked and extended here. Streams that one decision touched belong together, so that no customer,
whoever it was merged with, is in two shares. `shares.py` folds what `assign` deals out.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection

from domain.ids import DecisionId, StreamKind
from eventlog.envelope import extend_log_digest
from eventlog.port import ZERO_DIGEST, Entry
from projections.clock import time_moved_to
from projections.instants import microseconds
from replay.chain import ChainCheck

EVERY_SHARE = 255
"""Of a stream that each share folds: the workspace's, whose rules hold for everybody."""

SHARES_MAX = 250
UNREADABLE = -1


class Scan:
    """What is known of a log up to the last event added."""

    def __init__(self) -> None:
        self.log_digest = ZERO_DIGEST
        self.event_digest = ZERO_DIGEST
        self.revision = 0
        self._chain = ChainCheck()
        self._told = array("q")
        self._everybodys: set[int] = set()
        self._clock: int | None = None
        self._joined = array("q")
        self._decision: tuple[DecisionId, int] | None = None

    def add(self, entry: Entry, decision: DecisionId | None) -> int:
        """Add the next event; give the number of its stream. Raises `LogDamaged`."""
        number = self._chain.check_next(entry)
        self.revision, self.event_digest = entry.revision, entry.digest
        self.log_digest = extend_log_digest(self.log_digest, entry.revision, entry.digest)
        if number == len(self._joined):
            self._joined.append(number)
        self._told.append(_told(entry))
        if entry.stream.kind in (StreamKind.RECORD, StreamKind.IDENTIFIER):
            self._join(number, decision)
        elif entry.stream.kind is StreamKind.WORKSPACE:
            self._everybodys.add(number)
        else:
            self._clock = number
        return number

    def times(self, *, unreadable: Collection[int] = ()) -> array[int]:
        """Give what the clock shows after each event; some prove unreadable and do not turn it."""
        shown, at = array("q"), 0
        for revision, told in enumerate(self._told, start=1):
            if told > at and revision not in unreadable:
                at = told
            shown.append(at)
        return shown

    def assign(self, shares: int) -> bytes:
        """Deal the streams out: by number, the share of each."""
        if not 0 < shares <= SHARES_MAX:
            raise ValueError(f"there are 1 to {SHARES_MAX} shares")
        dealt = bytearray(len(self._joined))
        groups = 0
        for number, joined in enumerate(self._joined):  # to a stream that came before, or itself
            if joined == number:
                dealt[number] = groups % shares
                groups += 1
            else:
                dealt[number] = dealt[self._first(number)]
        for number in self._everybodys:
            dealt[number] = EVERY_SHARE
        if self._clock is not None:
            dealt[self._clock] = 0
        return bytes(dealt)

    def _join(self, number: int, decision: DecisionId | None) -> None:
        before, self._decision = self._decision, None
        if decision is None:
            return
        if before is not None and before[0] == decision:
            one, other = self._first(before[1]), self._first(number)
            self._joined[max(one, other)] = min(one, other)
        self._decision = (decision, number)

    def _first(self, number: int) -> int:
        joined = self._joined
        while joined[number] != number:
            joined[number] = joined[joined[number]]
            number = joined[number]
        return number


def _told(entry: Entry) -> int:
    """Say to which time an event turns the clock, as far as its envelope tells."""
    if entry.event is not None:
        return microseconds(time_moved_to(entry.event))
    if entry.fault is not None or entry.recorded_at is None:
        return UNREADABLE
    return microseconds(entry.recorded_at)
