"""How customers are woken: from their snapshots and what the log holds since, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from actors.awake import AwakeRecord
from actors.known_heads import KnownHeads, NoHeads, contradicted
from actors.remains import Unreadable, events_of
from actors.snapshots import RecordSnapshots
from domain.ids import RecordId, record_stream
from domain.record import Record, fold, unborn
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.port import EMPTY, Entry, EventLog, Head

WAKING_WAVES_MAX = 8
"""Rounds of loading until a customer is whole; more means that its identity moves all the time."""

ENDS_ASKED_MAX = 16
"""Cold records of which the end is asked for ahead; for more, it would be a request too many."""


class Waker:
    """Load customers from snapshots and the log after them, many at once, in waves.

    First the records, then their roots, then the members. What the log gives is compared with the
    heads that are known elsewhere.
    """

    def __init__(
        self,
        log: EventLog,
        snapshots: RecordSnapshots,
        *,
        heads: KnownHeads | None = None,
        note: Callable[[datetime], None] = lambda _recorded_at: None,
    ) -> None:
        self._log = log
        self._snapshots = snapshots
        self._heads = heads or NoHeads()
        self._note = note

    async def wake(
        self,
        wanted: Iterable[RecordId],
        known: Mapping[RecordId, AwakeRecord],
        *,
        is_for_erasure: bool = False,
    ) -> tuple[list[AwakeRecord], set[RecordId]]:
        """Give every record of every customer that holds a wanted one, and those found unreadable.

        What is `known` is only brought up to date. For an erasure, and nothing else, a record is
        good enough of which it is sure who it is. Raises `LogUnavailable`.
        """
        loaded: dict[RecordId, AwakeRecord] = {}
        unreadable: set[RecordId] = set()
        pending = set(wanted)
        for _wave in range(WAKING_WAVES_MAX):
            fresh, broken = await self._load(
                pending, {**known, **loaded}, is_for_erasure=is_for_erasure
            )
            loaded |= fresh
            unreadable |= broken
            pending = _incomplete(loaded) - unreadable
            if not pending:
                return _whole(loaded, unreadable)
        raise LogUnavailable("the identity of a customer moved while it was loaded")

    async def _load(
        self,
        wanted: set[RecordId],
        known: Mapping[RecordId, AwakeRecord],
        *,
        is_for_erasure: bool,
    ) -> tuple[dict[RecordId, AwakeRecord], set[RecordId]]:
        cold = wanted - known.keys()
        folded = self._heads.heads_of(wanted)  # before the log is read: the log is never behind it
        snapshots, ends = await asyncio.gather(self._snapshots.load(cold), self._ends(cold))
        heads = {r: known[r].head if r in known else EMPTY for r in wanted}
        heads |= {r: snapshot.head for r, snapshot in snapshots.items()}
        # A snapshot of the stream's very last event, unchanged in the log, has no tail to read.
        at_end = {r for r, snapshot in snapshots.items() if ends.get(r) == snapshot.head}
        tails = {r: head for r, head in heads.items() if r not in at_end}
        if tails:
            (entries, broken), states = await asyncio.gather(
                self._read(tails, recheck=snapshots),
                self._snapshots.unpack(snapshots.values(), is_beside_request=True),
            )
        else:
            entries, broken = {}, set()
            states = await self._snapshots.unpack(snapshots.values(), is_beside_request=False)
        entries |= {r: [] for r in at_end}
        unusable = snapshots.keys() - states.keys()
        if unusable:
            entries = {r: read for r, read in entries.items() if r not in unusable}
            whole, more_broken = await self._read(dict.fromkeys(unusable, EMPTY), recheck=())
            entries |= whole
            broken = (broken - unusable) | more_broken
        after = {r: EMPTY if r in unusable else heads[r] for r in entries}
        broken |= await self._contradicted(folded, entries, after)
        loaded: dict[RecordId, AwakeRecord] = {}
        for record_id, read in entries.items():
            if record_id in broken:
                continue
            before = known.get(record_id) or AwakeRecord(unborn(record_id), EMPTY)
            if record_id in states:
                before = AwakeRecord(states[record_id], heads[record_id])
            try:
                fresh = self._bring_up(before, read, is_for_erasure=is_for_erasure)
            except Unreadable:
                broken.add(record_id)
                continue
            loaded[record_id] = fresh
            if not is_for_erasure:
                since = before.head.version
                self._snapshots.note(fresh.record, fresh.head, since_version=since)
        return loaded, broken

    async def _contradicted(
        self,
        folded: Mapping[RecordId, Head],
        entries: Mapping[RecordId, list[Entry]],
        after: Mapping[RecordId, Head],
    ) -> set[RecordId]:
        """Name the records of which the log no longer gives what is known elsewhere."""
        known = {record_id: head for record_id, head in folded.items() if record_id in entries}
        given = {record_stream(r): (after[r], read) for r, read in entries.items()}
        return await contradicted(self._log, known, given)

    async def _ends(self, record_ids: Collection[RecordId]) -> dict[RecordId, Head]:
        """Ask at once with the snapshots whether there is a tail: few wait one round trip less."""
        if not self._snapshots.are_taken or len(record_ids) > ENDS_ASKED_MAX:
            return {}
        heads = await self._log.last_heads([record_stream(r) for r in record_ids])
        return {RecordId(stream.key): head for stream, head in heads.items()}

    async def _read(
        self, heads: Mapping[RecordId, Head], *, recheck: Collection[RecordId]
    ) -> tuple[dict[RecordId, list[Entry]], set[RecordId]]:
        """Read what comes after each head, and name the records whose streams are damaged.

        Of those to be rechecked the head's own event must be there, unchanged.
        """
        if not heads:
            return {}, set()
        after = {record_stream(r): head for r, head in heads.items()}
        rechecked = {record_stream(r) for r in heads if r in recheck}
        try:
            found = await self._log.load_many(after, recheck=rechecked)
        except LogDamaged:
            return await self._read_apart(heads, recheck)
        return {r: found.get(record_stream(r), []) for r in heads}, set()

    async def _read_apart(
        self, heads: Mapping[RecordId, Head], recheck: Collection[RecordId]
    ) -> tuple[dict[RecordId, list[Entry]], set[RecordId]]:
        """Read one by one, so that a broken chain takes only its own customer along."""
        entries: dict[RecordId, list[Entry]] = {}
        broken: set[RecordId] = set()
        for record_id, head in heads.items():
            stream = record_stream(record_id)
            rechecked = {stream} if record_id in recheck else set()
            try:
                found = await self._log.load_many({stream: head}, recheck=rechecked)
            except LogDamaged:
                broken.add(record_id)
            else:
                entries[record_id] = found.get(stream, [])
        return entries, broken

    def _bring_up(
        self, awake: AwakeRecord, entries: list[Entry], *, is_for_erasure: bool
    ) -> AwakeRecord:
        if not entries:
            return awake
        events = events_of(entries, is_for_erasure=is_for_erasure)
        if events:
            self._note(events[-1].recorded_at)
        record = fold(awake.record, events)
        unread = max((entry.revision for entry in entries if entry.event is None), default=0)
        if unread > record.changed_revision:  # it may have changed anything but who somebody is
            record = replace(record, changed_revision=unread)
        return AwakeRecord(record, entries[-1].head)


def _incomplete(loaded: Mapping[RecordId, AwakeRecord]) -> set[RecordId]:
    """Name what is still to be loaded, or to be loaded again because a merge came between."""
    missing: set[RecordId] = set()
    for record_id, awake in loaded.items():
        root = loaded.get(awake.record.root)
        if root is None:
            missing.add(awake.record.root)
        elif root.record.root != root.record.id:
            missing.add(record_id)
        elif record_id not in root.record.component:
            missing |= {record_id, root.record.id}
        else:
            late = {m for m in root.record.component if _lags(loaded.get(m), root.record)}
            # Where a member is loaded already it may be the root that is older: it parted since.
            missing |= late | ({root.record.id} if late & loaded.keys() else set())
    return missing


def _lags(member: AwakeRecord | None, root: Record) -> bool:
    return member is None or member.record.root != root.id


def _whole(
    loaded: Mapping[RecordId, AwakeRecord], unreadable: set[RecordId]
) -> tuple[list[AwakeRecord], set[RecordId]]:
    """Leave out every customer that has an unreadable record."""
    broken_roots = {
        awake.record.root
        for awake in loaded.values()
        if awake.record.root in unreadable or unreadable & set(awake.record.component)
    }
    whole = [awake for awake in loaded.values() if awake.record.root not in broken_roots]
    broken = {r for r, awake in loaded.items() if awake.record.root in broken_roots}
    return whole, unreadable | broken
