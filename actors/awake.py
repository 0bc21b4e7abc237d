"""The customers that a host holds awake, least recently used first, and the way to wake more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from domain.ids import IdentifierKey, RecordId, record_stream
from domain.record import Record, fold, unborn
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.port import EMPTY, Entry, EventLog, Head

WAKING_WAVES_MAX = 8
"""Rounds of loading until a customer is whole; more means that its identity moves all the time."""


@dataclass(frozen=True, slots=True)
class AwakeRecord:
    """A record and the head of its stream that the state stands for."""

    record: Record
    head: Head


@dataclass(slots=True)
class _AwakeCustomer:
    records: dict[RecordId, AwakeRecord]
    used_at: float


class Unreadable(Exception):
    """An event of the record cannot be read or breaks its chain: nothing is decided on it (R10)."""


class AwakeCustomers:
    """Customers in memory, by root and by record."""

    def __init__(
        self, *, customers_max: int, idle_seconds: float, now: Callable[[], float] = monotonic
    ) -> None:
        self._customers_max = customers_max
        self._idle_seconds = idle_seconds
        self._now = now
        self._by_root: OrderedDict[RecordId, _AwakeCustomer] = OrderedDict()
        self._root_of: dict[RecordId, RecordId] = {}

    def __len__(self) -> int:
        return len(self._by_root)

    def root_of(self, record_id: RecordId) -> RecordId | None:
        """Name the customer that a record belongs to, if it is awake."""
        return self._root_of.get(record_id)

    def records_of(self, root: RecordId) -> Mapping[RecordId, AwakeRecord]:
        """Give the records of an awake customer, and count it as used."""
        customer = self._by_root[root]
        customer.used_at = self._now()
        self._by_root.move_to_end(root)
        return customer.records

    def head_of(self, record_id: RecordId) -> Head:
        """Give the head that is known of a record's stream."""
        root = self._root_of.get(record_id)
        return EMPTY if root is None else self._by_root[root].records[record_id].head

    def holds(self, record_id: RecordId, key: IdentifierKey) -> bool:
        """Whether the customer of a record is awake and has this identifier."""
        root = self._root_of.get(record_id)
        if root is None:
            return False
        records = self._by_root[root].records
        if key in records[record_id].record.identifiers:
            return True
        return any(key in item.record.identifiers for item in records.values())

    def keep(self, records: Iterable[AwakeRecord]) -> None:
        """Take whole customers in, in place of what was known of them, unless that is newer."""
        fresh = {awake.record.id: awake for awake in records}
        stale = {
            a.record.root for r, a in fresh.items() if self.head_of(r).revision > a.head.revision
        }
        for record_id, awake in fresh.items():
            if awake.record.root not in stale:
                self.forget(record_id)
        for record_id, awake in fresh.items():
            root = awake.record.root
            if root in stale:
                continue
            customer = self._by_root.setdefault(root, _AwakeCustomer({}, self._now()))
            customer.records[record_id] = awake
            self._root_of[record_id] = root

    def forget(self, record_id: RecordId) -> None:
        """Put the customer of a record to sleep."""
        root = self._root_of.get(record_id)
        if root is None:
            return
        for member in self._by_root.pop(root).records:
            self._root_of.pop(member, None)

    def passivate(self, *, busy: Callable[[RecordId], bool]) -> int:
        """Put to sleep whoever is idle or over the cap, but nobody busy; say how many."""
        oldest = self._now() - self._idle_seconds
        surplus = len(self._by_root) - self._customers_max
        asleep = 0
        for root in list(self._by_root):
            if surplus <= asleep and self._by_root[root].used_at >= oldest:
                break
            if not busy(root):
                self.forget(root)
                asleep += 1
        return asleep


class Waker:
    """Load customers from the log, many at once, in waves: records, their roots, the members."""

    def __init__(
        self, log: EventLog, *, note: Callable[[datetime], None] = lambda _recorded_at: None
    ) -> None:
        self._log = log
        self._note = note

    async def wake(
        self, wanted: Iterable[RecordId], known: Mapping[RecordId, AwakeRecord]
    ) -> tuple[list[AwakeRecord], set[RecordId]]:
        """Give every record of every customer that holds a wanted one, and those found unreadable.

        What is `known` is only brought up to date. Raises `LogUnavailable`.
        """
        loaded: dict[RecordId, AwakeRecord] = {}
        unreadable: set[RecordId] = set()
        pending = set(wanted)
        for _wave in range(WAKING_WAVES_MAX):
            fresh, broken = await self._load(pending, {**known, **loaded})
            loaded |= fresh
            unreadable |= broken
            pending = _incomplete(loaded) - unreadable
            if not pending:
                return _whole(loaded, unreadable)
        raise LogUnavailable("the identity of a customer moved while it was loaded")

    async def _load(
        self, wanted: set[RecordId], known: Mapping[RecordId, AwakeRecord]
    ) -> tuple[dict[RecordId, AwakeRecord], set[RecordId]]:
        before = {r: known.get(r) or AwakeRecord(unborn(r), EMPTY) for r in wanted}
        heads = {record_stream(r): awake.head for r, awake in before.items()}
        try:
            entries = await self._log.load_many(heads)
        except LogDamaged:
            return await self._load_apart(before)
        loaded: dict[RecordId, AwakeRecord] = {}
        broken: set[RecordId] = set()
        for record_id, awake in before.items():
            try:
                loaded[record_id] = self._bring_up(awake, entries.get(record_stream(record_id), []))
            except Unreadable:
                broken.add(record_id)
        return loaded, broken

    async def _load_apart(
        self, before: Mapping[RecordId, AwakeRecord]
    ) -> tuple[dict[RecordId, AwakeRecord], set[RecordId]]:
        """Load one by one, so that a broken chain takes only its own customer along."""
        loaded: dict[RecordId, AwakeRecord] = {}
        broken: set[RecordId] = set()
        for record_id, awake in before.items():
            try:
                entries = await self._log.load(record_stream(record_id), after=awake.head)
                loaded[record_id] = self._bring_up(awake, entries)
            except (LogDamaged, Unreadable):
                broken.add(record_id)
        return loaded, broken

    def _bring_up(self, awake: AwakeRecord, entries: list[Entry]) -> AwakeRecord:
        if not entries:
            return awake
        events = [entry.event for entry in entries if entry.event is not None]
        if len(events) != len(entries):
            raise Unreadable
        self._note(events[-1].recorded_at)
        return AwakeRecord(fold(awake.record, events), entries[-1].head)


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
            missing |= {m for m in root.record.component if _lags(loaded.get(m), root.record)}
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
