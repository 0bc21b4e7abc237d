"""What a damaged log has lost: the revisions, and the records that are known to have had them.

`verify.py` calls it once it knows that something is wrong. It reads whatever can still be read and
compares it with the heads that the read side has kept. What the leader lacks, or a replica that was
read before, is lost, also where the replica that is read now has it still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from domain.ids import RecordId, Stream, StreamKind, record_stream
from eventlog.port import EMPTY, Entry, Head, LogReader

NAMED_MAX = 1_000
"""Ranges, revisions and records that are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class TouchedRecord:
    """A record whose events are not all there: where it ended, and how far its chain still holds.

    `expected` is zero for a record that the read side does not know.
    """

    record_id: RecordId
    expected: Head
    found: Head


@dataclass(slots=True)
class Damage:
    """Ranges of revisions that are gone, revisions that hold another event, records touched."""

    lost: list[tuple[int, int]] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    records: list[TouchedRecord] = field(default_factory=list)
    lost_events: int = 0
    replaced_events: int = 0
    records_touched: int = 0


async def survey_damage(
    log: LogReader, known: Mapping[RecordId, Head], *, known_revision: int
) -> Damage:
    """Read what is left of a log and say what is not. Raises `LogUnavailable` and `LogDamaged`.

    `known` holds the records' heads in the read side, where there is one. `known_revision` is the
    last that anything outside the log knows to have been stored.
    """
    shape, gaps = await log.shape(), await log.gaps()
    beyond = (shape.last_revision + 1, known_revision)
    survey = _Survey(known, [*gaps, beyond])
    async with aclosing(log.survey()) as batches:  # type: ignore[type-var]  # generators, by contract
        async for entries in batches:
            for entry in entries:
                survey.take(entry)
    return survey.end(known_revision)


class _Survey:
    """The log as far as it was read: gaps, chains, and events that are not those folded."""

    def __init__(self, known: Mapping[RecordId, Head], gaps: Sequence[tuple[int, int]]) -> None:
        self._known = known
        self._gaps = deque(gaps)
        self._by_revision = {head.revision: record_id for record_id, head in known.items()}
        self._found: dict[Stream, Head] = {}
        self._broken: set[Stream] = set()
        self._touched: set[RecordId] = set()
        self._damage = Damage()
        self._revision = 0

    def take(self, entry: Entry) -> None:
        """Take the next event that could be read; leave it where it is a gap all the same."""
        while self._gaps and self._gaps[0][1] < entry.revision:
            self._gaps.popleft()
        if self._gaps and self._gaps[0][0] <= entry.revision:
            return
        self._lose(self._revision + 1, entry.revision - 1)
        self._revision = entry.revision
        self._compare(entry)
        head = self._found.get(entry.stream, EMPTY)
        if entry.version != head.version + 1 or entry.previous != head.digest:
            self._broken.add(entry.stream)
        if entry.stream not in self._broken:
            self._found[entry.stream] = entry.head

    def end(self, known_revision: int) -> Damage:
        """Say what is damaged, now that there is no more to read."""
        self._lose(self._revision + 1, max([known_revision, *self._by_revision]))
        for record_id, head in self._known.items():
            if self._found.get(record_stream(record_id), EMPTY).version < head.version:
                self._touch(record_id)
        for stream in self._broken:
            if stream.kind is StreamKind.RECORD and RecordId(stream.key) not in self._touched:
                self._touch(RecordId(stream.key))
        return self._damage

    def _compare(self, entry: Entry) -> None:
        """Compare an event with the one that was folded at its revision, if that ended a record."""
        record_id = self._by_revision.get(entry.revision)
        if record_id is None or self._known[record_id].digest == entry.digest:
            return
        self._damage.replaced_events += 1
        if len(self._damage.replaced) < NAMED_MAX:
            self._damage.replaced.append(entry.revision)
        self._broken.add(record_stream(record_id))

    def _lose(self, first: int, last: int) -> None:
        if last < first:
            return
        self._damage.lost_events += last - first + 1
        if len(self._damage.lost) < NAMED_MAX:
            self._damage.lost.append((first, last))

    def _touch(self, record_id: RecordId) -> None:
        self._touched.add(record_id)
        self._damage.records_touched += 1
        if len(self._damage.records) < NAMED_MAX:
            expected = self._known.get(record_id, EMPTY)
            found = self._found.get(record_stream(record_id), EMPTY)
            self._damage.records.append(TouchedRecord(record_id, expected, found))
