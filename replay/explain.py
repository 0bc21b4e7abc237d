"""Why: a merge by its id, with rule, evidence and who; a segment's membership, and since when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from domain.event import Recorded
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    IdentifiersLinked,
    IdentifiersUnlinked,
)
from domain.ids import EventId, IdentifierKey, MergeId, RecordId, Stream, record_stream
from eventlog.port import EMPTY, Entry, LogReader
from eventlog.registry import wire_name
from projections.errors import CustomerErased
from projections.instants import microseconds, time_of
from projections.segments.journal import Cause, MembershipChange, changes, changes_of
from projections.tables import ReadTables
from replay.as_of import AsOf, clock_after, find_prefix
from replay.customer import PastMembers, erased_records
from replay.fold import READ_EVENTS_MAX, Progress, silent

Since = tuple[int, int]
"""The revision at which a membership began or ended, and the instant."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """An identifier that met, as its HMAC, and the events that linked it on either side."""

    key: IdentifierKey
    record_id: RecordId
    event_id: EventId
    revision: int


@dataclass(frozen=True, slots=True)
class Undoing:
    """Who took a merge back, and when."""

    event_id: EventId
    revision: int
    recorded_at: datetime
    auth_id: str


@dataclass(frozen=True, slots=True)
class MergeExplanation:
    """A merge: what it joined, by which rule, on what evidence, who asked for it, and its end."""

    merge_id: MergeId
    older: RecordId
    newer: RecordId
    root: RecordId
    reason: str
    rules_version: int
    evidence: tuple[Evidence, ...]
    event_id: EventId
    revision: int
    recorded_at: datetime
    auth_id: str
    command_id: str
    undone: Undoing | None


async def explain_merge(
    log: LogReader, merge_id: MergeId, *, progress: Progress = silent
) -> MergeExplanation | None:
    """Find a merge in the whole log, and say why it was; None where there was none such.

    Raises `CustomerErased` where one of the two was erased since, `LogUnavailable`, `LogDamaged`.
    """
    async with aclosing(log.read(batch_events_max=READ_EVENTS_MAX)) as batches:  # type: ignore[type-var]  # generators, by contract
        async for batch in batches:
            progress(batch[-1].revision)
            for entry in batch:
                merge = _merge(entry, merge_id)
                if merge is not None:
                    return await _explained(log, merge, merge_id)
    return None


def explain_change(
    tables: ReadTables, segment: str, root: RecordId, *, revision: int
) -> MembershipChange | None:
    """Find what the journal says of a membership that began or ended at a revision."""
    for change in changes(tables, after_revision=revision - 1):
        if change.revision > revision:
            return None
        if change.segment == segment and change.customer == root:
            return change
    return None


async def since_in_log(
    log: LogReader,
    past: PastMembers,
    *,
    since: Mapping[str, Since],
    now: datetime,
    marks: ReadTables | None = None,
) -> dict[str, Since]:
    """Say since when past memberships are in the log, or ended, as the read side had them.

    `since` says it by segment as it is in the fold of the customer's own streams: in the log time
    passes with the events of others too. What the read side's journal still holds of the customer
    says when; for the rest the log is read, once for all that began together. Raises
    `LogUnavailable` and `LogDamaged`.
    """
    if past.prefix.happened is not None:
        return dict(since)
    folded = [*changes(past.tables)]
    clocks, passed = _journaled(marks, folded)
    told: dict[str, Since] = {}
    by_time = _by_time(folded)
    for segment, (revision, at) in since.items():
        if (segment, revision, at) in by_time:
            if at not in passed:
                before = await find_prefix(log, AsOf(known=time_of(at - 1)), now=now, marks=marks)
                passed[at] = before.revision + 1
            told[segment] = min(passed[at], past.prefix.revision), at
        else:
            if revision not in clocks:
                clocks[revision] = microseconds(await clock_after(log, revision, marks=marks))
            told[segment] = revision, clocks[revision]
    return told


def _journaled(
    marks: ReadTables | None, folded: Iterable[MembershipChange]
) -> tuple[dict[int, int], dict[int, int]]:
    """Say what the clock showed after events, and by which events it came to instants.

    As far as the read side's journal tells it of those whom these changes name.
    """
    clocks, passed = dict[int, int](), dict[int, int]()
    if marks is None:
        return clocks, passed
    named = {record for change in folded for record in (change.customer, change.moved_from)}
    for change in (c for record in named if record for c in changes_of(marks, record)):
        if change.cause == "time":
            passed[change.at] = change.revision
        else:
            clocks[change.revision] = change.at
    return clocks, passed


def _by_time(folded: Iterable[MembershipChange]) -> set[tuple[str, int, int]]:
    """Name what nothing but time brought about: segment, revision and instant."""
    causes: defaultdict[tuple[str, int, int], set[Cause]] = defaultdict(set)
    for change in folded:
        causes[change.segment, change.revision, change.at].add(change.cause)
    return {place for place, told in causes.items() if told == {"time"}}


async def event_at(log: LogReader, revision: int) -> tuple[str, EventId] | None:
    """Give the type and the id of an event; None where it cannot be read."""
    reading = log.read(after_revision=revision - 1, through_revision=revision)
    async with aclosing(reading) as batches:  # type: ignore[type-var]  # generators, by contract
        async for batch in batches:
            event = batch[0].event
            return None if event is None else (wire_name(type(event.body)), event.event_id)
    return None


def _merge(entry: Entry, merge_id: MergeId) -> Recorded[CustomersMerged] | None:
    event = entry.event
    if event is None or not isinstance(event.body, CustomersMerged):
        return None
    if all(edge.merge_id != merge_id for edge in event.body.edges):
        return None
    return event  # type: ignore[return-value]  # its body was looked at


async def _explained(
    log: LogReader, merge: Recorded[CustomersMerged], merge_id: MergeId
) -> MergeExplanation:
    body = merge.body
    edge = next(edge for edge in body.edges if edge.merge_id == merge_id)
    entries = await _load(log, _records(body))
    if not erased_records(entries).isdisjoint({edge.older, edge.newer}):
        raise CustomerErased
    root = next(iter(e for e in entries if _is_root(e, merge_id)), None)
    if root is not None:  # the others name it alone: the component stands on it
        assert root.event is not None
        assert isinstance(root.event.body, CustomersMerged)
        entries = await _load(log, _records(root.event.body))
    return MergeExplanation(
        merge_id=merge_id,
        older=RecordId(edge.older),
        newer=RecordId(edge.newer),
        root=RecordId(body.root),
        reason=body.reason,
        rules_version=body.rules_version,
        evidence=tuple(_evidence(entries, body, through=_last_revision(merge))),
        event_id=merge.event_id,
        revision=merge.revision,
        recorded_at=merge.recorded_at,
        auth_id=merge.auth_id,
        command_id=merge.command_id,
        undone=_undoing(entries, merge_id),
    )


def _records(body: CustomersMerged) -> set[Stream]:
    ends = (end for edge in body.edges for end in (edge.older, edge.newer))
    return {record_stream(RecordId(r)) for r in (body.root, *body.component, *ends)}


async def _load(log: LogReader, streams: Iterable[Stream]) -> list[Entry]:
    loaded = await log.load_many(dict.fromkeys(streams, EMPTY))
    return sorted((e for es in loaded.values() for e in es), key=lambda entry: entry.revision)


def _is_root(entry: Entry, merge_id: MergeId) -> bool:
    merge = _merge(entry, merge_id)
    return merge is not None and bool(merge.body.component)


def _last_revision(event: Recorded[CustomersMerged]) -> int:
    """Give the revision that the event's decision ends at; its events stand side by side."""
    return event.revision - event.part + event.parts


def _evidence(entries: Iterable[Entry], body: CustomersMerged, *, through: int) -> list[Evidence]:
    """Give the links that stood then: what was unlinked before brought nobody together."""
    links: list[Evidence] = []
    for entry in entries:
        if entry.event is None or entry.revision > through:
            continue
        record_id, event_id = RecordId(entry.stream.key), entry.event.event_id
        match entry.event.body:
            case IdentifiersLinked(keys=keys):
                met = (key for key in keys if key in body.evidence)
                links += [Evidence(key, record_id, event_id, entry.revision) for key in met]
            case IdentifiersUnlinked(keys=keys):
                links = [x for x in links if x.record_id != record_id or x.key not in keys]
            case _:
                pass
    return links


def _undoing(entries: Iterable[Entry], merge_id: MergeId) -> Undoing | None:
    for entry in entries:
        event = entry.event
        if event is None or not isinstance(event.body, CustomersParted):
            continue
        if any(edge.merge_id == merge_id for edge in event.body.removed):
            return Undoing(event.event_id, event.revision, event.recorded_at, event.auth_id)
    return None
