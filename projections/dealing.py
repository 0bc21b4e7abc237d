"""A large batch dealt out by customers, to be folded in parts side by side (`parts.py`).

Who was one customer, what one decision touches and who has the same signal belongs together. That
is found out while the batch before is still being folded (`divide`); when the batch's turn comes it
is dealt out as divided (`deal`), unless who was divided has become one customer since.

Not every event can be dealt out: what changes the rules, what nobody can read and what erases
somebody is folded whole.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from domain.erasure_events import ErasureRequested
from domain.ids import DecisionId, IdentifierKey, RecordId, Stream, StreamKind, record_stream
from domain.signal_events import SignalsRecorded
from eventlog.port import Entry
from projections import clock, customers, identifiers
from projections.clock import LogTimes
from projections.instants import microseconds
from projections.packing import pack
from projections.segments import bitmaps, candidates, timers
from projections.tables import ReadTables, StoredTables

DUE_MAX = 10_000
"""Customers of whom something is due in a batch that is dealt out, each about as much as an event;
of more it is put away slice by slice what came of them, which no part can."""


@dataclass(frozen=True, slots=True)
class Division:
    """Which events of a batch are one's to fold."""

    entries: Sequence[Entry]
    """The whole batch."""
    shares: Sequence[bytes]
    """The events of each, packed."""
    sizes: Sequence[int]
    """How many each has."""
    streams: Mapping[Stream, int]
    """Whose the events of a stream are."""


@dataclass(slots=True)
class Hand:
    """What one folds of a batch, and what is its own."""

    share: bytes
    """Its events, packed."""
    size: int
    """Events, and customers of whom something is due."""
    records: set[RecordId] = field(default_factory=set)
    """Of the customers whose events these are, all of them."""
    newcomers: int = 0
    """Records that were not known before."""


@dataclass(frozen=True, slots=True)
class Deal:
    """A batch dealt out."""

    entries: Sequence[Entry]
    times: LogTimes
    hands: Sequence[Hand]


def divide(tables: StoredTables, entries: Sequence[Entry], hands: int) -> Division | None:
    """Divide a batch among so many, about as much to each; None where it is to stay whole.

    `tables` stand where the batch begins, or somewhat before.
    """
    if not _are_whole(tables) or not all(map(may_be_dealt, entries)):
        return None
    members = _members(tables, {entry.stream for entry in entries})
    groups = _Groups(members)
    for entry in entries:
        groups.add(entry)
    return groups.divided(entries, hands)


def deal(tables: StoredTables, division: Division) -> Deal | None:
    """Deal a batch out as it was divided; None where it is to stay whole.

    `tables` stand where the batch begins. Who is due meanwhile is dealt out as well. The batch is
    divided anew where who was divided is one customer by now.
    """
    if not _are_whole(tables):
        return None
    times = _times(tables, division.entries)
    until = microseconds(times.after(times.last_revision))
    due = list(islice(timers.due_until(tables, until), DUE_MAX + 1))
    if len(due) > DUE_MAX:
        return None
    hands = _hands(tables, division, due)
    if hands is None:
        anew = divide(tables, division.entries, len(division.shares))
        hands = _hands(tables, anew, due) if anew else None
    return Deal(division.entries, times, hands) if hands else None


def _are_whole(tables: StoredTables) -> bool:
    """Say whether every row is as it will stay: no definition waits, and all have numbers."""
    return bool(bitmaps.numbering(tables)) and not candidates.are_held(tables)


def may_be_dealt(entry: Entry) -> bool:
    """Say whether a batch with this event can be dealt out."""
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


def _hands(tables: StoredTables, division: Division, due: Sequence[RecordId]) -> list[Hand] | None:
    """Say who is whose; None where one customer would be that of two."""
    streams = dict.fromkeys(chain(division.streams, map(record_stream, due)))
    members = _members(tables, streams)
    hands = [Hand(*one) for one in zip(division.shares, division.sizes, strict=True)]
    owners = {stream.key: number for stream, number in division.streams.items()}
    for stream in streams:
        known = members.get(stream.key, ())
        among = {owners[key] for key in (stream.key, *known) if key in owners}
        if len(among) > 1:
            return None
        number = among.pop() if among else min(range(len(hands)), key=lambda n: hands[n].size)
        hand = hands[number]
        hand.size += stream not in division.streams
        hand.records.update(known)
        owners |= dict.fromkeys(known, number)
        if not known and stream.kind is StreamKind.RECORD:
            hand.records.add(RecordId(stream.key))
            hand.newcomers += 1
    return hands


def _members(tables: StoredTables, streams: Collection[Stream]) -> dict[str, tuple[RecordId, ...]]:
    """Say of each stream, by key, which records are one customer with it, or hold it."""
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

    def add(self, entry: Entry) -> None:
        """Take in the next event, with whom its stream was one customer."""
        before, self._before = self._before, None
        if entry.stream.kind is StreamKind.CLOCK or entry.event is None:
            return
        key, decision = entry.stream.key, entry.event.decision_id
        if key not in self._streams:
            self._streams[key] = entry.stream
            for member in self._members.get(key, ()):
                self._join(key, member)
        if before is not None and before[0] == decision:
            self._join(before[1], key)
        self._before = (decision, key)
        body = entry.event.body
        if isinstance(body, SignalsRecorded):
            for signal in body.signals:
                self._join(key, self._told.setdefault((body.source, signal.message_id), key))

    def divided(self, entries: Sequence[Entry], parts: int) -> Division:
        """Divide events: each group goes to who has least."""
        groups = [self._first(entry.stream.key) for entry in entries]
        sizes = [0] * parts
        chosen: dict[str, int] = {}
        for group, size in Counter(groups).items():
            number = min(range(parts), key=sizes.__getitem__)
            sizes[number] += size
            chosen[group] = number
        shares: list[list[Entry]] = [[] for _ in range(parts)]
        for entry, group in zip(entries, groups, strict=True):
            shares[chosen[group]].append(entry)
        streams = {s: chosen[self._first(key)] for key, s in self._streams.items()}
        return Division(entries, [pack(share) for share in shares], sizes, streams)

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
