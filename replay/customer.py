"""Customers as they were: folded from their own streams and the workspace's, up to a prefix (R15).

The clock comes with the prefix, so nobody else's events are read. Rows live in memory, open, for as
long as an answer takes. Whoever is erased by now was never there: no past state is given of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from domain.erasure_events import ErasureRequested
from domain.identity_events import CustomersMerged, IdentifierClaimed, IdentifiersLinked
from domain.ids import (
    WORKSPACE_STREAM,
    IdentifierKey,
    RecordId,
    Stream,
    identifier_stream,
    record_stream,
)
from eventlog.port import EMPTY, Entry, Head
from projections import customers
from projections.errors import CustomerErased
from projections.facts_session import FactsSession
from projections.fold import Begin, fold_excerpt, let_time_pass
from projections.memory import MemoryTables
from projections.segments.membership import read_membership
from projections.segments.session import Session
from projections.views import CustomerView, customer_view, record_holding
from replay.as_of import Prefix, within


class Streams(Protocol):
    """Where the streams of past customers are loaded from: a log, or `WorkspaceStreamKept`."""

    async def load_many(self, streams: Mapping[Stream, Head], /) -> dict[Stream, list[Entry]]:
        """Load several streams, each after its head. Raises `LogUnavailable`, `LogDamaged`."""


@dataclass(frozen=True, slots=True)
class PastCustomers:
    """Some customers as of a prefix, and who of them is erased by now."""

    tables: MemoryTables
    prefix: Prefix
    entries: tuple[Entry, ...]
    erased: frozenset[RecordId]

    def view(self, record_id: RecordId, purpose: str) -> CustomerView | None:
        """See a customer, of households nobody else. Raises as `customer_view`, `CustomerErased`.

        Who else was of a household is on streams that the customer's own do not name.
        """
        self._require_kept(record_id)
        view = customer_view(self.tables, record_id, purpose)
        return None if view is None else _without_housemates(view)

    def holder(self, key: IdentifierKey) -> RecordId | None:
        """Find who held an identifier. Raises `CustomerParked`."""
        return record_holding(self.tables, key)

    def _require_kept(self, record_id: RecordId) -> None:
        found = customers.component(self.tables, record_id)
        if not self.erased.isdisjoint({record_id, *(found.members if found else ())}):
            raise CustomerErased


class PastMembers(PastCustomers):
    """Past customers with their memberships, which take by far the longest to fold."""

    def segments(self, record_id: RecordId) -> tuple[str, ...]:
        """Name the segments to which a customer belonged. Raises `CustomerErased`."""
        self._require_kept(record_id)
        root = customers.root(self.tables, record_id)
        row = read_membership(self.tables, root) if root else None
        return tuple(sorted(n for n in row["in"] if not n.startswith("~"))) if row else ()


async def fold_customers(
    log: Streams,
    prefix: Prefix,
    *,
    record_ids: Collection[RecordId] = (),
    identifiers: Collection[IdentifierKey] = (),
) -> PastCustomers:
    """Fold what is known of the customers of these records, and of who held these identifiers.

    Views equal those over the whole prefix, but for who else is of a household; the digests of so
    few events mean nothing. Raises `LogUnavailable` and `LogDamaged`.
    """
    loaded = await load_customers(log, prefix, record_ids=record_ids, identifiers=identifiers)
    entries = within(loaded, prefix)
    tables = await asyncio.to_thread(_folded, entries, prefix, FactsSession)
    return PastCustomers(tables, prefix, tuple(entries), erased_records(loaded))


async def fold_members(
    log: Streams,
    prefix: Prefix,
    *,
    record_ids: Collection[RecordId] = (),
    identifiers: Collection[IdentifierKey] = (),
) -> PastMembers:
    """Fold as `fold_customers` does, and who belonged to which segment: as over the whole prefix.

    Since when is that of the customer's own streams; `since_in_log` says it of the log.
    """
    loaded = await load_customers(log, prefix, record_ids=record_ids, identifiers=identifiers)
    entries = within(loaded, prefix)
    tables = await asyncio.to_thread(_folded, entries, prefix, Session)
    return PastMembers(tables, prefix, tuple(entries), erased_records(loaded))


def _without_housemates(view: CustomerView) -> CustomerView:
    alone = (view.customer_id,)
    households = tuple(replace(household, customers=alone) for household in view.households)
    return replace(view, households=households)


def _folded(entries: Sequence[Entry], prefix: Prefix, begin: Begin) -> MemoryTables:
    """Fold, which takes long where the rules were changed very often."""
    tables = MemoryTables()
    if entries:
        fold_excerpt(tables, entries, begin)
    let_time_pass(tables, prefix.clock, begin, revision=prefix.revision)
    return tables


async def load_customers(
    log: Streams,
    prefix: Prefix,
    *,
    record_ids: Collection[RecordId] = (),
    identifiers: Collection[IdentifierKey] = (),
) -> list[Entry]:
    """Load every stream that these customers stand on, to its end."""
    streams: dict[Stream, list[Entry]] = {}
    wanted = {WORKSPACE_STREAM, *map(record_stream, record_ids)}
    asked = {identifier_stream(key) for key in identifiers}
    wanted |= asked
    while wanted:
        fresh = await log.load_many(dict.fromkeys(wanted, EMPTY))
        streams.update({stream: fresh.get(stream, []) for stream in wanted})
        known = [
            entry for es in fresh.values() for entry in es if entry.revision <= prefix.revision
        ]
        wanted = _named(known, asked) - streams.keys()
    return [entry for loaded in streams.values() for entry in loaded]


def erased_records(entries: Iterable[Entry]) -> frozenset[RecordId]:
    """Name the records among these whose key is destroyed, or is to be."""
    return frozenset(
        RecordId(entry.stream.key)
        for entry in entries
        if entry.event is not None
        if entry.event.is_erased or isinstance(entry.event.body, ErasureRequested)
    )


def _named(entries: Iterable[Entry], asked: Collection[Stream]) -> set[Stream]:
    """Name the streams that these events lead to: merged records, their identifiers, holders.

    Of the identifiers only those that were asked for lead to whoever held them.
    """
    named: set[Stream] = set()
    for entry in entries:
        match entry.event.body if entry.event else None:
            case CustomersMerged(root=root, component=component):
                named |= {record_stream(RecordId(other)) for other in (root, *component)}
            case IdentifierClaimed(record_id=record_id) if entry.stream in asked:
                named.add(record_stream(RecordId(record_id)))
            case IdentifiersLinked(keys=keys):
                named |= {identifier_stream(key) for key in keys}
            case _:
                pass
    return named
