"""A large batch dealt out by customers, to be folded in parts side by side (`parts.py`).

Who was one customer, what one decision touches and who has the same signal belongs together. Not
every batch can be dealt out: what changes the rules, what nobody can read and what erases somebody
is folded whole.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from domain.erasure_events import ErasureRequested
from domain.ids import DecisionId, IdentifierKey, RecordId, Stream, StreamKind, record_stream
from domain.signal_events import SignalsRecorded
from eventlog.port import Entry
from projections import clock, customers, identifiers
from projections.clock import LogTimes
from projections.instants import microseconds
from projections.segments import bitmaps, candidates, timers
from projections.tables import ReadTables, StoredTables

DUE_MAX = 10_000
"""Customers of whom something is due in a batch that is dealt out, each about as much as an event;
of more it is put away slice by slice what came of them, which no part can."""


@dataclass(slots=True)
class Hand:
    """What one folds of a batch, and what is its own."""

    entries: list[Entry] = field(default_factory=list)
    records: set[RecordId] = field(default_factory=set)
    """Of the customers whose events these are, all of them."""
    newcomers: int = 0
    """Records that were not known before."""


@dataclass(frozen=True, slots=True)
class Deal:
    """A batch dealt out."""

    times: LogTimes
    hands: Sequence[Hand]


def deal(tables: StoredTables, entries: Sequence[Entry], hands: int) -> Deal | None:
    """Deal a batch out to so many, about as much to each; None where it is to stay whole.

    `tables` stand where the batch begins. Who is due meanwhile is dealt out as well.
    """
    if candidates.are_held(tables) or not bitmaps.numbering(tables):
        return None
    if not all(map(_may_be_dealt, entries)):
        return None
    times = _times(tables, entries)
    until = microseconds(times.after(times.last_revision))
    due = list(islice(timers.due_until(tables, until), DUE_MAX + 1))
    if len(due) > DUE_MAX:
        return None
    groups = _Groups(_members(tables, entries, due))
    for root in due:
        groups.add(record_stream(root))
    for entry in entries:
        groups.add_event(entry)
    return Deal(times, groups.dealt(entries, due, hands))


def _may_be_dealt(entry: Entry) -> bool:
    if entry.event is None or entry.stream.kind is StreamKind.WORKSPACE:
        return False
    return not isinstance(entry.event.body, ErasureRequested)


def _times(tables: ReadTables, entries: Sequence[Entry]) -> LogTimes:
    at = microseconds(clock.read_clock(tables))
    shown = array("q")
    for entry in entries:
        if entry.event is not None:
            at = max(at, microseconds(clock.time_moved_to(entry.event)))
        shown.append(at)
    return LogTimes(shown, first_revision=entries[0].revision)


def _members(
    tables: StoredTables, entries: Sequence[Entry], due: Sequence[RecordId]
) -> dict[str, tuple[RecordId, ...]]:
    """Say of each stream of a batch which records were one customer with it, or held it."""
    streams = {*(entry.stream for entry in entries), *map(record_stream, due)}
    keys = [IdentifierKey(s.key) for s in streams if s.kind is StreamKind.IDENTIFIER]
    holders = identifiers.holders(tables, keys)
    holders |= {s.key: RecordId(s.key) for s in streams if s.kind is StreamKind.RECORD}
    known = customers.members_of_all(tables, holders.values())
    return {key: known[holder] for key, holder in holders.items() if holder in known}


class _Groups:
    """Which streams of a batch belong together."""

    def __init__(self, members: Mapping[str, tuple[RecordId, ...]]) -> None:
        self._members = members
        self._joined: dict[str, str] = {}
        self._streams: dict[str, Stream] = {}
        self._before: tuple[DecisionId, str] | None = None
        self._told: dict[tuple[str, str], str] = {}
        """Which stream told of a signal first, by source and message id."""

    def add(self, stream: Stream) -> None:
        """Take in a stream, with whom it was one customer."""
        if stream.key not in self._streams:
            self._streams[stream.key] = stream
            for member in self._members.get(stream.key, ()):
                self._join(stream.key, member)

    def add_event(self, entry: Entry) -> None:
        """Take in the next event."""
        before, self._before = self._before, None
        if entry.stream.kind is StreamKind.CLOCK or entry.event is None:
            return
        key, decision = entry.stream.key, entry.event.decision_id
        self.add(entry.stream)
        if before is not None and before[0] == decision:
            self._join(before[1], key)
        self._before = (decision, key)
        body = entry.event.body
        if isinstance(body, SignalsRecorded):
            for signal in body.signals:
                self._join(key, self._told.setdefault((body.source, signal.message_id), key))

    def dealt(self, entries: Sequence[Entry], due: Sequence[RecordId], parts: int) -> list[Hand]:
        """Deal out events, and who is due: each group to who has least."""
        hands = [Hand() for _ in range(parts)]
        sizes: dict[str, int] = {}
        for key in chain((entry.stream.key for entry in entries), due):
            group = self._first(key)
            sizes[group] = sizes.get(group, 0) + 1
        loads = [0 for _ in hands]
        chosen: dict[str, int] = {}
        for group, size in sizes.items():
            number = min(range(len(hands)), key=loads.__getitem__)
            loads[number] += size
            chosen[group] = number
        for entry in entries:
            hands[chosen[self._first(entry.stream.key)]].entries.append(entry)
        for key, stream in self._streams.items():
            hand, known = hands[chosen[self._first(key)]], self._members.get(key, ())
            hand.records.update(known)
            if not known and stream.kind is StreamKind.RECORD:
                hand.records.add(RecordId(key))
                hand.newcomers += 1
        return hands

    def _join(self, one: str, other: str) -> None:
        if one == other:
            return
        first, second = self._first(one), self._first(other)
        if first != second:
            self._joined[second] = first

    def _first(self, key: str) -> str:
        joined = self._joined
        while (above := joined.get(key, key)) != key:
            joined[key] = joined.get(above, above)
            key = above
        return key
