"""Customers as they were answered, given again for as long as nothing that they show has changed.

An answer is kept encoded, with all rows that it was made of as they are stored
(`projections/footprint.py`), and is given again only where the snapshot of the call holds the same,
nothing in it has run out, and every key is still there: exactly what would be made anew, for a
tenth of the work. A change of a customer, of its keys or of the rules makes its answer another one
at once; nothing is kept for longer than `KEPT_SECONDS_MAX`, whether it is asked for or not.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from domain.ids import IdentifierKey, RecordId
from koseki.v1 import query_service_pb2
from projections.clock import read_clock
from projections.footprint import Footprint
from projections.rows import RowCodec
from projections.tables import Checkpoint, ReadTables
from projections.views import CustomerView, customer_view, customer_view_by_identifier
from services.answers import customer_message
from services.methods import Encoded

CUSTOMERS_KEPT_MAX = 8_192
"""About 4 KB each."""

KEPT_SECONDS_MAX = 60.0
LOOK_EVERY_SECONDS = 1.0
PLACES_READ_MAX = 256
"""Of an answer that is kept: more would take as long to compare as to make."""

Name = tuple[Literal["id", "key"], str, str]
"""Whether a customer is asked for by id or by an identifier's key, which one, and what for."""


@dataclass(frozen=True, slots=True)
class _Kept:
    encoded: bytes
    footprint: Footprint
    made_at: datetime
    judged_at: datetime
    sure_until: datetime

    def is_sure_at(self, time: datetime) -> bool:
        return self.judged_at <= time < self.sure_until

    def may_stay(self, now: datetime) -> bool:
        """Say whether it may be there still when the next look is taken."""
        age = (now - self.made_at).total_seconds()
        return abs(age) <= KEPT_SECONDS_MAX - LOOK_EVERY_SECONDS


@dataclass(frozen=True, slots=True)
class _Stand:
    """What all snapshots of one checkpoint have in common."""

    checkpoint: Checkpoint
    clock: datetime
    revision: bytes

    @classmethod
    def of(cls, tables: ReadTables) -> _Stand:
        customer = query_service_pb2.Customer(revision=tables.checkpoint.revision)
        return cls(tables.checkpoint, read_clock(tables), _encoded(customer))


class KeptCustomers:
    """The answers of one process, the oldest leaves first.

    With a clock, which takes a running loop, they leave in time though nobody asks any more.
    """

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self._now = now
        self._kept: OrderedDict[Name, _Kept] = OrderedDict()
        self._stand: _Stand | None = None
        self._ageing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def at_hand(
        self, name: Name, checkpoint: Checkpoint, codec: RowCodec, *, now: datetime
    ) -> Encoded | None:
        """Give what `answer` would, without a snapshot; None where it takes one."""
        kept, stand = self._kept.get(name), self._stand
        if kept is None or stand is None or stand.checkpoint is not checkpoint:
            return None
        if not kept.is_sure_at(max(now, stand.clock)):
            return None
        if not kept.footprint.is_at(checkpoint, codec):
            return None
        return Encoded(kept.encoded + stand.revision)

    def answer(self, tables: ReadTables, name: Name, *, now: datetime) -> Encoded | None:
        """Give a customer with the revision of the snapshot, as an encoded `GetCustomerResponse`.

        It is judged as of `now` or the log's clock. Raises as `customer_view`.
        """
        self.let_go(now)
        stand = self._stand
        if stand is None or stand.checkpoint is not tables.checkpoint:
            stand = self._stand = _Stand.of(tables)
        encoded = self._customer(tables, name, now=now, time=max(now, stand.clock))
        # Messages of one type that are put together are read as one: so encoding is defined.
        return None if encoded is None else Encoded(encoded + stand.revision)

    def let_go(self, now: datetime) -> None:
        """Let go of whatever would be too old when the next look is taken."""
        while self._kept and not next(iter(self._kept.values())).may_stay(now):
            self._kept.popitem(last=False)

    async def _age(self, now: Callable[[], datetime]) -> None:
        while self._kept:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            self.let_go(now())

    def _customer(
        self, tables: ReadTables, name: Name, *, now: datetime, time: datetime
    ) -> bytes | None:
        kept = self._kept.get(name)
        if kept is not None:
            if kept.is_sure_at(time) and kept.footprint.is_in(tables):
                return kept.encoded
            del self._kept[name]
        footprint = Footprint(tables)
        view = _view(footprint, name, time)
        if view is None:
            return None
        customer = customer_message(view)
        customer.ClearField("revision")
        encoded = _encoded(customer)
        if len(footprint) <= PLACES_READ_MAX:
            footprint.let_go()
            end = time + timedelta(seconds=KEPT_SECONDS_MAX)
            sure_until = min(view.sure_until or end, end)
            self._keep(name, _Kept(encoded, footprint, now, time, sure_until))
        return encoded

    def _keep(self, name: Name, kept: _Kept) -> None:
        self._kept[name] = kept
        if len(self._kept) > CUSTOMERS_KEPT_MAX:
            self._kept.popitem(last=False)
        if self._now is not None and (self._ageing is None or self._ageing.done()):
            self._ageing = asyncio.create_task(self._age(self._now))


def _view(tables: ReadTables, name: Name, time: datetime) -> CustomerView | None:
    by, named, purpose = name
    if by == "key":
        return customer_view_by_identifier(tables, IdentifierKey(named), purpose, now=time)
    return customer_view(tables, RecordId(named), purpose, now=time)


def _encoded(customer: query_service_pb2.Customer) -> bytes:
    return query_service_pb2.GetCustomerResponse(customer=customer).SerializeToString()
