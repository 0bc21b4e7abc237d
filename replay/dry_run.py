"""Which segments a merge or an undo would change: tried in memory, with nothing written.

The domain decides it and the read side's fold goes on over what it decided, as both would if it
were meant; only from one customer's streams. Called for dry runs: hosts know no memberships.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from domain.commands import MergeCustomers, UndoMerge, UnmergeRecord
from domain.customer import Customer
from domain.decide import decide
from domain.event import Event, Recorded
from domain.ids import RecordId, StreamKind
from domain.record import fold, unborn
from domain.replies import SegmentConsequence
from eventlog.errors import LogUnavailable
from eventlog.port import Entry
from projections import customers
from projections.fold import fold_excerpt
from projections.rules import read_rules
from projections.segments.definitions import read_segments
from projections.segments.following import segments_of
from projections.segments.session import Session
from projections.tables import ReadTables
from replay.as_of import Prefix
from replay.customer import PastMembers, Streams, fold_members
from replay.supposed import supposed


class _Stands(NamedTuple):
    root: RecordId
    segments: frozenset[str]


Tried = MergeCustomers | UndoMerge | UnmergeRecord
"""Commands that can be tried, and change who is one customer."""


async def segment_consequences(
    log: Streams, prefix: Prefix, command: Tried, *, at_least_revision: int
) -> tuple[SegmentConsequence, ...]:
    """Say which memberships a command would change, of customers who join or part.

    It is tried on a prefix, in which they must have come to a revision: `LogUnavailable` where the
    log does not give that yet. Raises `DomainError`, `CustomerErased` and `LogError`.
    """
    past = await fold_members(log, prefix, record_ids=command.named_records)
    if at_least_revision > max((entry.revision for entry in past.entries), default=0):
        raise LogUnavailable("the log does not deliver yet what was decided on")
    return await asyncio.to_thread(_tried, past, command)


def _tried(past: PastMembers, command: Tried) -> tuple[SegmentConsequence, ...]:
    prefix, tables = past.prefix, past.tables
    meant = command.model_copy(update={"dry_run": False, "expected_revision": None})
    known = _customers(past.entries, command.named_records)
    decision = decide(read_rules(tables), known, meant, now=prefix.clock)
    events = supposed(decision.changes, command.command_id, after=prefix.revision, at=prefix.clock)
    records = [RecordId(event.stream.key) for event in events]
    before = _standing(tables, records)
    if events:
        fold_excerpt(tables, [_entry(event) for event in events], Session)
    after = _standing(tables, records)
    roots = {stands[record].root for stands in (before, after) for record in records}
    return tuple(
        SegmentConsequence(
            customer_id=root,
            segment=segment,
            belongs_before=segment in before[root].segments,
            belongs_after=segment in after[root].segments,
        )
        for root in sorted(roots)
        for segment in sorted(before[root].segments ^ after[root].segments)
    )


def _standing(tables: ReadTables, records: Iterable[RecordId]) -> dict[RecordId, _Stands]:
    """Say by record of which customer it is, and in which segments purposes may see that one."""
    known, purposes = read_segments(tables), read_rules(tables).purposes
    found: dict[RecordId, _Stands] = {}
    for record in records:
        root = customers.root(tables, record) or record
        seen = [segments_of(tables, root, purpose, segments=known) for purpose in purposes]
        found[record] = _Stands(root, frozenset(m.segment for told in seen for m in told))
    return found


def _customers(entries: Iterable[Entry], named: Iterable[RecordId]) -> tuple[Customer, ...]:
    events: defaultdict[RecordId, list[Recorded[Event]]] = defaultdict(list)
    for entry in entries:
        if entry.event is not None and entry.stream.kind is StreamKind.RECORD:
            events[RecordId(entry.stream.key)].append(entry.event)
    records = {record_id: fold(unborn(record_id), own) for record_id, own in events.items()}
    roots = {records[record_id].root for record_id in named if record_id in records}
    return tuple(Customer.of(root, records) for root in sorted(roots))


def _entry(event: Recorded[Event]) -> Entry:
    return Entry(
        event=event,
        stream=event.stream,
        revision=event.revision,
        version=event.version,
        previous=b"",
        digest=b"",
        ends_append=event.part == event.parts,
        recorded_at=event.recorded_at,
    )
