"""The customers that a host holds awake, least recently used first, and the way to wake more.

They rest as packed bytes (`packing.py`) and are unpacked when touched; those touched last stay so.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from actors.known_heads import KnownHeads, NoHeads, contradicted
from actors.packing import pack, unpack
from actors.snapshots import RecordSnapshots
from domain.ids import IdentifierKey, RecordId, record_stream
from domain.record import Record, fold, unborn
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.port import EMPTY, Entry, EventLog, Head

WAKING_WAVES_MAX = 8
"""Rounds of loading until a customer is whole; more means that its identity moves all the time."""

ENDS_ASKED_MAX = 16
"""Cold records of which the end is asked for ahead; for more, it would be a request too many."""

PACKED_BYTES_MAX = 1024 * 1024 * 1024
"""Bytes of packed customers that a host keeps, wherever nobody says otherwise."""

UNPACKED_CUSTOMERS_MAX = 8_000
"""Four rounds of commands: unpacked, a customer takes five times the memory, but to unpack and pack
one takes as long as to decide on it."""


@dataclass(frozen=True, slots=True)
class AwakeRecord:
    """A record and the head of its stream that the state stands for."""

    record: Record
    head: Head


@dataclass(slots=True)
class _AwakeCustomer:
    """A customer whose records are packed, or at hand, or both."""

    heads: dict[RecordId, Head]
    used_at: float
    parted: dict[RecordId, datetime] = field(default_factory=dict)
    packed: tuple[bytes, ...] = ()
    records: dict[RecordId, AwakeRecord] | None = None

    def pack(self) -> None:
        """Keep bytes only."""
        if self.records is not None and not self.packed:
            self.packed = tuple(pack(awake.record) for awake in self.records.values())
        self.records = None

    @property
    def packed_bytes(self) -> int:
        """How large it is, packed; nothing for one at hand that changed since."""
        return sum(map(len, self.packed))

    def unpack(self) -> dict[RecordId, AwakeRecord]:
        """Have the records at hand."""
        if self.records is None:
            heads = self.heads.items()
            self.records = {
                record_id: AwakeRecord(unpack(packed), head)
                for (record_id, head), packed in zip(heads, self.packed, strict=True)
            }
        return self.records


class Unreadable(Exception):
    """An event of the record cannot be read or breaks its chain: nothing is decided on it (R10)."""


class AwakeCustomers:
    """Customers in memory, by root and by record; packed, but for those used last."""

    def __init__(
        self,
        *,
        customers_max: int,
        idle_seconds: float,
        packed_bytes_max: int = PACKED_BYTES_MAX,
        unpacked_max: int = UNPACKED_CUSTOMERS_MAX,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._customers_max = customers_max
        self._idle_seconds = idle_seconds
        self._packed_bytes_max = packed_bytes_max
        self._packed_bytes = 0
        self._unpacked_max = unpacked_max
        self._now = now
        self._by_root: OrderedDict[RecordId, _AwakeCustomer] = OrderedDict()
        self._root_of: dict[RecordId, RecordId] = {}
        self._at_hand: OrderedDict[RecordId, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_root)

    @property
    def packed_bytes(self) -> int:
        """How many bytes the packed customers take."""
        return self._packed_bytes

    def root_of(self, record_id: RecordId) -> RecordId | None:
        """Name the customer that a record belongs to, if it is awake."""
        return self._root_of.get(record_id)

    def records_of(self, root: RecordId) -> Mapping[RecordId, AwakeRecord]:
        """Give the records of an awake customer, and count it as used."""
        self._by_root[root].used_at = self._now()
        self._by_root.move_to_end(root)
        self._count_at_hand(root)
        return self._unpacked(root)

    def parted_from(self, root: RecordId) -> Mapping[RecordId, datetime]:
        """Name the customers that parted from an awake one, and when; older ones fade away."""
        customer = self._by_root.get(root)
        return customer.parted if customer else {}

    def head_of(self, record_id: RecordId) -> Head:
        """Give the head that is known of a record's stream."""
        root = self._root_of.get(record_id)
        return EMPTY if root is None else self._by_root[root].heads[record_id]

    def holds(self, record_id: RecordId, key: IdentifierKey) -> bool:
        """Whether the customer of a record is awake and has this identifier."""
        root = self._root_of.get(record_id)
        if root is None:
            return False
        records = self._unpacked(root)
        if key in records[record_id].record.identifiers:
            return True
        return any(key in item.record.identifiers for item in records.values())

    def keep(self, records: Iterable[AwakeRecord]) -> None:
        """Take whole customers in, in place of what was known of them, unless that is newer."""
        fresh = {awake.record.id: awake for awake in records}
        stale = {
            a.record.root for r, a in fresh.items() if self.head_of(r).revision > a.head.revision
        }
        whole: dict[RecordId, dict[RecordId, AwakeRecord]] = {}
        for record_id, awake in fresh.items():
            if awake.record.root not in stale:
                self.forget(record_id)
                whole.setdefault(awake.record.root, {})[record_id] = awake
        for root, members in whole.items():
            self._put(root, members)

    def _put(self, root: RecordId, members: dict[RecordId, AwakeRecord]) -> None:
        if root in self._by_root:
            members = {**self._unpacked(root), **members}
        customer = self._by_root.setdefault(root, _AwakeCustomer({}, self._now()))
        customer.heads = {record_id: awake.head for record_id, awake in members.items()}
        self._packed_bytes -= customer.packed_bytes
        customer.records, customer.packed = members, ()
        customer.parted = {r: at for m in members.values() for r, at in m.record.parted.items()}
        self._root_of |= dict.fromkeys(members, root)
        self._count_at_hand(root)

    def _unpacked(self, root: RecordId) -> dict[RecordId, AwakeRecord]:
        customer = self._by_root[root]
        if customer.records is not None:
            return customer.records
        records = customer.unpack()
        self._count_at_hand(root)
        return records

    def _count_at_hand(self, root: RecordId) -> None:
        """Pack whoever was not touched for longest."""
        self._at_hand[root] = None
        self._at_hand.move_to_end(root)
        while len(self._at_hand) > self._unpacked_max:
            longest, _ = self._at_hand.popitem(last=False)
            customer = self._by_root[longest]
            before = customer.packed_bytes
            customer.pack()
            self._packed_bytes += customer.packed_bytes - before

    def forget(self, record_id: RecordId) -> None:
        """Put the customer of a record to sleep."""
        root = self._root_of.get(record_id)
        if root is None:
            return
        self._at_hand.pop(root, None)
        customer = self._by_root.pop(root)
        self._packed_bytes -= customer.packed_bytes
        for member in customer.heads:
            self._root_of.pop(member, None)

    def passivate(self, *, busy: Callable[[RecordId], bool]) -> int:
        """Put to sleep whoever is idle or over a cap, but nobody busy; say how many."""
        oldest = self._now() - self._idle_seconds
        surplus, packed = len(self._by_root) - self._customers_max, self._packed_bytes
        sleepers: list[RecordId] = []
        for root, customer in self._by_root.items():
            is_over = surplus > len(sleepers) or packed > self._packed_bytes_max
            if not is_over and customer.used_at >= oldest:
                break
            if not busy(root):
                sleepers.append(root)
                packed -= customer.packed_bytes
        for root in sleepers:
            self.forget(root)
        return len(sleepers)


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
                fresh = self._bring_up(before, read)
            except Unreadable:
                broken.add(record_id)
                continue
            loaded[record_id] = fresh
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
