"""The customers that a host holds awake, least recently used first; `waking.py` wakes more.

They rest as packed bytes (`packing.py`) and are unpacked when touched; those touched last stay so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from actors.packing import pack, unpack
from domain.identity import PastHolder
from domain.ids import IdentifierKey, RecordId
from domain.record import Record
from eventlog.port import EMPTY, Head

PACKED_BYTES_MAX = 1024 * 1024 * 1024
"""Bytes of packed customers that a host keeps, wherever nobody says otherwise."""

UNPACKED_CUSTOMERS_MAX = 8_000
"""Four rounds of commands: unpacked, a customer takes five times the memory, but to unpack and pack
one takes as long as to decide on it."""


class AwakeRecord(NamedTuple):
    """A record and the head of its stream that the state stands for."""

    record: Record
    head: Head


@dataclass(slots=True, eq=False)
class _AwakeCustomer:
    """A customer whose records are packed, or at hand, or both.

    `let_go` is what they were read on for: identifiers that they held before others.
    """

    heads: dict[RecordId, Head]
    used_at: float
    parted: dict[RecordId, datetime] = field(default_factory=dict)
    past_holders: tuple[PastHolder, ...] = ()
    let_go: frozenset[PastHolder] = frozenset()
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

    def past_holders(self, root: RecordId) -> Sequence[PastHolder]:
        """Give who held the identifiers of an awake customer not long ago; older ones fade away."""
        customer = self._by_root.get(root)
        return customer.past_holders if customer else ()

    def has_let_go(self, holder: PastHolder) -> bool:
        """Whether a customer is known as it is since it held an identifier."""
        root = self._root_of.get(RecordId(holder.record_id))
        return root is not None and holder in self._by_root[root].let_go

    def note_let_go(self, holder: PastHolder) -> None:
        """Note that a customer was read after it held an identifier."""
        root = self._root_of.get(RecordId(holder.record_id))
        if root is not None:
            self._by_root[root].let_go |= {holder}

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

    def is_one_at_hand(self, owners: Mapping[IdentifierKey, RecordId]) -> bool:
        """Whether one customer holds all of these identifiers, and nobody else remembers theirs."""
        found: _AwakeCustomer | None = None
        for key, record_id in owners.items():
            if not self.holds(record_id, key):
                return False
            customer = self._by_root[self._root_of[record_id]]
            if found not in (None, customer):
                return False
            found = customer
        return found is not None and not found.parted and not found.past_holders

    def keep(self, records: Iterable[AwakeRecord]) -> None:
        """Take whole customers in, in place of what was known of them, unless that is newer."""
        whole: dict[RecordId, dict[RecordId, AwakeRecord]] = {}
        for awake in records:
            whole.setdefault(awake.record.root, {})[awake.record.id] = awake
        stale = {
            root
            for root, members in whole.items()
            for record_id, awake in members.items()
            if self.head_of(record_id).revision > awake.head.revision
        }
        for root, members in whole.items():
            if root not in stale:
                self._put(root, members)

    def _put(self, root: RecordId, members: dict[RecordId, AwakeRecord]) -> None:
        customer, now = self._by_root.get(root), self._now()
        if customer is None or customer.heads.keys() != members.keys():
            for member in members:
                self.forget(member)
            if root in self._by_root:
                members = {**self._unpacked(root), **members}
            customer = self._by_root.setdefault(root, _AwakeCustomer({}, now))
            self._root_of |= dict.fromkeys(members, root)
        self._packed_bytes -= customer.packed_bytes
        customer.used_at = now
        self._by_root.move_to_end(root)
        customer.heads = {record_id: awake.head for record_id, awake in members.items()}
        customer.records, customer.packed = members, ()
        customer.parted, customer.past_holders = {}, ()
        for record, _ in members.values():
            if record.parted or record.past_holders:
                customer.parted |= record.parted
                customer.past_holders += record.past_holders
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
