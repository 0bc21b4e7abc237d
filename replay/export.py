"""Everything that one purpose may see, customer by customer, as rows of tables (R12).

Reads rows of the read side, or of a replay, through the same views as every answer: of whom the
purpose is closed for nothing is given, nor of whoever is parked. `parquet.py` writes what this
yields; `EXPORTED` says what each table holds. Personal values are in the rows, in the clear.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from domain.ids import RecordId
from domain.rules import AUDIT
from domain.segments import Segment
from eventlog.port import LogReader
from projections import customers, timeline
from projections.consent_history import consent_history
from projections.customers import CUSTOMERS
from projections.errors import CustomerErased, CustomerParked
from projections.instants import time_of
from projections.row_keys import with_keys
from projections.rows import RowCodec
from projections.rules import read_rules
from projections.segments.definitions import read_segments
from projections.segments.following import Membership, memberships_in, segments_of
from projections.segments.membership import read_membership
from projections.tables import ReadTables
from projections.views import CustomerView, customer_view
from replay.erased import erased_by_now

CUSTOMERS_AT_ONCE = 500
"""Customers whose rows are made together, with their keys loaded in bulk."""

TEXT, COUNT, TRUTH, TIME, TEXTS = "text", "count", "truth", "time", "texts"

EXPORTED: Mapping[str, Mapping[str, str]] = {
    "customers": {"customer_id": TEXT, "record_ids": TEXTS},
    "identifiers": {
        "customer_id": TEXT,
        "namespace": TEXT,
        "value": TEXT,
        "record_id": TEXT,
        "sources": TEXTS,
    },
    "traits": {
        "customer_id": TEXT,
        "trait": TEXT,
        "value": TEXT,
        "is_shown": TRUTH,
        "source": TEXT,
        "happened_at": TIME,
        "record_id": TEXT,
        "event_id": TEXT,
    },
    "context": {
        "customer_id": TEXT,
        "key": TEXT,
        "value": TEXT,
        "source": TEXT,
        "happened_at": TIME,
        "expires_at": TIME,
    },
    "preferences": {
        "customer_id": TEXT,
        "channel": TEXT,
        "topic": TEXT,
        "frequency": TEXT,
        "happened_at": TIME,
    },
    "signals": {
        "customer_id": TEXT,
        "happened_at": TIME,
        "source": TEXT,
        "message_id": TEXT,
        "kind": TEXT,
        "name": TEXT,
        "properties": TEXT,
        "record_id": TEXT,
        "revision": COUNT,
    },
    "memberships": {
        "customer_id": TEXT,
        "segment": TEXT,
        "since_revision": COUNT,
        "since": TIME,
        "sure_until": TIME,
    },
    "consents": {
        "customer_id": TEXT,
        "purpose": TEXT,
        "is_open": TRUTH,
        "state": TEXT,
        "notice_version": TEXT,
        "happened_at": TIME,
        "valid_until": TIME,
    },
    "consent_acts": {
        "customer_id": TEXT,
        "event_id": TEXT,
        "revision": COUNT,
        "purpose": TEXT,
        "state": TEXT,
        "acted_by": TEXT,
        "happened_at": TIME,
        "recorded_at": TIME,
        "valid_until": TIME,
        "notice_version": TEXT,
        "jurisdiction": TEXT,
        "source": TEXT,
        "is_imported": TRUTH,
        "method": TEXT,
        "evidence": TEXT,
    },
}
"""By table, its columns and what is in each. `value`, `properties` and `evidence` are JSON."""

Row = dict[str, Any]  # Any: a value of the kind that `EXPORTED` names
Rows = dict[str, list[Row]]


class Batch(NamedTuple):
    """The rows of some customers, by table."""

    customers: int
    rows: Rows


@dataclass(slots=True)
class LeftOut:
    """Who is not in an export, and why."""

    purpose_closed: int = 0
    parked: int = 0
    erased: int = 0

    def add(self, other: LeftOut) -> None:
        """Count others too."""
        self.purpose_closed += other.purpose_closed
        self.parked += other.parked
        self.erased += other.erased


@dataclass(slots=True)
class Export:
    """One export of everybody, from rows that stand still; the log says who is erased since."""

    tables: ReadTables
    codec: RowCodec
    purpose: str
    log: LogReader
    now: datetime | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    _definitions: Mapping[str, Segment] = field(init=False)

    def __post_init__(self) -> None:
        """Read once what is the same for everybody."""
        self._definitions = read_segments(self.tables)

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield rows of everybody, in order of their ids.

        Raises `NotFound` / UNKNOWN_PURPOSE, `LogUnavailable` and `LogDamaged`.
        """
        if self.purpose != AUDIT:
            read_rules(self.tables).purpose(self.purpose)
        roots = _roots(self.tables)
        while chosen := list(islice(roots, CUSTOMERS_AT_ONCE)):
            members = [m for root in chosen for m in customers.members(self.tables, root)]
            erased = await erased_by_now(self.log, members)

            async def make(
                chosen: list[RecordId] = chosen, erased: frozenset[RecordId] = erased
            ) -> tuple[Batch, LeftOut]:
                return self._batch(chosen, erased)

            batch, left_out = await with_keys(self.codec, make)
            self.left_out.add(left_out)
            yield batch

    def _batch(self, roots: list[RecordId], erased: frozenset[RecordId]) -> tuple[Batch, LeftOut]:
        """Make rows. Raises `KeysNotHeld` for the keys of all of these at once."""
        self.tables.need(m for root in roots for m in customers.members(self.tables, root))
        rows: Rows = {name: [] for name in EXPORTED}
        left_out, seen = LeftOut(), 0
        for root in roots:
            try:
                view = customer_view(self.tables, root, self.purpose, now=self.now)
            except CustomerParked:
                left_out.parked += 1
                continue
            except CustomerErased:
                left_out.erased += 1
                continue
            if view is None or not view.is_open:
                left_out.purpose_closed += 1
            elif not erased.isdisjoint(view.members):
                left_out.erased += 1
            else:
                seen += 1
                for table, made in self._tables_of(view).items():
                    rows[table] += ({"customer_id": view.customer_id, **row} for row in made)
        return Batch(seen, rows), left_out

    def _tables_of(self, view: CustomerView) -> Mapping[str, Iterable[Row]]:
        return {
            "customers": [{"record_ids": list(view.members)}],
            "identifiers": _identifiers(view),
            "traits": _traits(view),
            "context": _context(view),
            "preferences": _preferences(view),
            "signals": self._signals(view),
            "memberships": map(_membership, self._segments(view)),
            "consents": _consents(view),
            "consent_acts": _acts(self.tables, view),
        }

    def _signals(self, view: CustomerView) -> Iterator[Row]:
        sources = None
        if self.purpose != AUDIT:
            sources = read_rules(self.tables).sources_serving(self.purpose)
        for signal in timeline.signals(self.tables, view.members):
            if sources is None or signal.source in sources:
                yield {
                    "happened_at": time_of(signal.at),
                    "source": signal.source,
                    "message_id": signal.message_id,
                    "kind": signal.kind,
                    "name": signal.name,
                    "properties": _json(signal.properties),
                    "record_id": signal.record_id,
                    "revision": signal.revision,
                }

    def _segments(self, view: CustomerView) -> list[Membership]:
        if self.purpose != AUDIT:
            return segments_of(
                self.tables, view.customer_id, self.purpose, segments=self._definitions
            )
        row = read_membership(self.tables, view.customer_id)
        return [] if row is None else memberships_in(self._definitions, row)


def _roots(tables: ReadTables) -> Iterator[RecordId]:
    for key, row in tables.scan(CUSTOMERS, b""):
        if row["root"] == key.decode():
            yield RecordId(row["root"])


def _identifiers(view: CustomerView) -> Iterator[Row]:
    for known in view.identifiers:
        yield {
            "namespace": known.namespace,
            "value": known.value,
            "record_id": known.record_id,
            "sources": list(known.sources),
        }


def _traits(view: CustomerView) -> Iterator[Row]:
    for trait in view.traits:
        for claim in (trait.winner, *trait.losers):
            yield {
                "trait": trait.name,
                "value": _json(claim.value),
                "is_shown": claim is trait.winner,
                "source": claim.source,
                "happened_at": claim.effective_at,
                "record_id": claim.record_id,
                "event_id": claim.event_id,
            }


def _context(view: CustomerView) -> Iterator[Row]:
    for claim in view.context:
        yield {
            "key": claim.key,
            "value": _json(claim.value),
            "source": claim.source,
            "happened_at": claim.effective_at,
            "expires_at": claim.expires_at,
        }


def _preferences(view: CustomerView) -> Iterator[Row]:
    for stated in view.preferences:
        yield {
            "channel": stated.channel,
            "topic": stated.topic,
            "frequency": stated.frequency,
            "happened_at": stated.effective_at,
        }


def _membership(known: Membership) -> Row:
    return {
        "segment": known.segment,
        "since_revision": known.since_revision,
        "since": time_of(known.since_at),
        "sure_until": None if known.sure_until is None else time_of(known.sure_until),
    }


def _consents(view: CustomerView) -> Iterator[Row]:
    for place in view.consents:
        act = place.standing.act
        yield {
            "purpose": place.purpose.name,
            "is_open": place.standing.is_open,
            "state": place.standing.state.value,
            "notice_version": act.notice_version if act else None,
            "happened_at": act.effective_at if act else None,
            "valid_until": act.valid_until if act else None,
        }


def _acts(tables: ReadTables, view: CustomerView) -> Iterator[Row]:
    for act in consent_history(tables, view.members):
        yield {
            "event_id": act.event_id,
            "revision": act.revision,
            "purpose": act.purpose,
            "state": act.state.value,
            "acted_by": act.acted_by.value,
            "happened_at": act.happened_at,
            "recorded_at": act.recorded_at,
            "valid_until": act.valid_until,
            "notice_version": act.notice_version,
            "jurisdiction": act.jurisdiction,
            "source": act.source,
            "is_imported": act.is_imported,
            "method": act.method,
            "evidence": _json(act.evidence),
        }


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
