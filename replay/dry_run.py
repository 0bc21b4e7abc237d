"""Which segments a merge or an undo would change: tried in memory, with nothing written.

The domain decides it and the read side's fold goes on over what it decided, as both would if it
were meant; only from one customer's streams. Called for dry runs: hosts know no memberships.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from domain.commands import MergeCustomers, UndoMerge, UnmergeRecord
from domain.customer import Customer
from domain.decide import decide
from domain.event import Event, Recorded
from domain.ids import RecordId, StreamKind
from domain.record import Record, fold, unborn
from domain.replies import SegmentConsequence
from eventlog.errors import LogUnavailable
from eventlog.port import Entry
from projections import customers
from projections.fold import fold_excerpt
from projections.rules import read_rules
from projections.segments.session import Session
from replay.as_of import Prefix
from replay.customer import PastMembers, Streams, fold_members
from replay.supposed import supposed

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
    meant = command.model_copy(update={"dry_run": False})
    known = _customers(past.entries, command.named_records)
    decision = decide(read_rules(tables), known, meant, now=prefix.clock)
    events = supposed(decision.changes, command.command_id, after=prefix.revision, at=prefix.clock)
    records = [RecordId(event.stream.key) for event in events]
    before = {record: past.segments(record) for record in records}
    roots = {customers.root(tables, record) for record in records}
    if events:
        fold_excerpt(tables, [_entry(event) for event in events], Session)
    roots |= {customers.root(tables, record) for record in records}
    after = {record: past.segments(record) for record in records}
    return tuple(
        SegmentConsequence(
            customer_id=record,
            segment=segment,
            belongs_before=segment in before[record],
            belongs_after=segment in after[record],
        )
        for record in sorted(root for root in roots if root is not None)
        for segment in sorted({*before[record]} ^ {*after[record]})
    )


def _customers(entries: Iterable[Entry], named: Iterable[RecordId]) -> tuple[Customer, ...]:
    events: defaultdict[RecordId, list[Recorded[Event]]] = defaultdict(list)
    for entry in entries:
        if entry.event is not None and entry.stream.kind is StreamKind.RECORD:
            events[RecordId(entry.stream.key)].append(entry.event)
    records = {record_id: fold(unborn(record_id), own) for record_id, own in events.items()}
    roots = {records[record_id].root for record_id in named if record_id in records}
    return tuple(_customer(records[root], records) for root in sorted(roots))


def _customer(root: Record, records: dict[RecordId, Record]) -> Customer:
    return Customer({member: records[member] for member in root.component})


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
