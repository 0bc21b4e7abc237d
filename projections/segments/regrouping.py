"""Memberships made again where records joined or parted: `moved`, and nothing that is not so (R16).

Knows nothing of events: what was one customer before stands in the rows, what is one now in
`customers`. Everything is evaluated anew from the timelines of the members.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from domain.ids import RecordId
from projections import customers
from projections.rows import Row
from projections.segments.journal import MembershipChange
from projections.segments.membership import Ledger, Moment, change_at, new_row

Rows = Mapping[RecordId, Row]


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a customer's records were before: itself, absorbed customers, one it came out of."""

    own: Row | None
    absorbed: Rows
    left: Rows


def is_as_it_was(ledger: Ledger, root: RecordId) -> bool:
    """Say whether a customer's records are those that it was last judged by."""
    members, row = customers.members(ledger.tables, root), ledger.row(root)
    return len(members) == 1 if row is None else tuple(row["members"]) == members


def regroup(ledger: Ledger, touched: Iterable[RecordId], moment: Moment) -> None:
    """Judge anew the customers that these records were in, and those that they are in now."""
    before = _rows_before(ledger, touched)
    records = {*touched, *(RecordId(m) for row in before.values() for m in row["members"])}
    roots = {root for record in records if (root := customers.root(ledger.tables, record))}
    now = {root: customers.members(ledger.tables, root) for root in sorted(roots)}
    after = {root: _judged(ledger, members, moment) for root, members in now.items()}
    for root, row in before.items():
        ledger.remove(root, row)
    for root, row in after.items():
        origin = _origin(root, row, before)
        for change in _settle(ledger, root, row, origin=origin, moment=moment):
            ledger.journal.note(change)


def _rows_before(ledger: Ledger, touched: Iterable[RecordId]) -> dict[RecordId, Row]:
    """Find the rows of the customers as they were: each is kept under one of its records."""
    found: dict[RecordId, Row] = {}
    for record in sorted(touched):
        root = customers.root(ledger.tables, record) or record
        for candidate in (record, *customers.members(ledger.tables, root)):
            row = ledger.row(candidate)
            if row is not None:
                found[candidate] = row
    return found


def _judged(ledger: Ledger, members: tuple[RecordId, ...], moment: Moment) -> Row:
    """Make a customer's row from nothing but what is known of its records."""
    row = new_row(members)
    facts = ledger.facts(members)
    for standing in ledger.active.order:
        if ledger.ask(row, standing, facts, now=moment.at):
            row["in"][standing.name] = [moment.revision, moment.at]
    return row


def _origin(root: RecordId, row: Row, before: Rows) -> _Origin:
    members = set(row["members"])
    met = {old: was for old, was in before.items() if members & set(was["members"])}
    return _Origin(
        own=met.get(root),
        absorbed={old: was for old, was in met.items() if old in members and old != root},
        left={old: was for old, was in met.items() if old not in members},
    )


def _settle(
    ledger: Ledger, root: RecordId, row: Row, *, origin: _Origin, moment: Moment
) -> list[MembershipChange]:
    """Say what became of each membership, keep since when it is, and write the row."""
    told = [
        change
        for standing in ledger.active.order
        for change in _changes(root, standing.name, row, origin=origin, moment=moment)
    ]
    for name in row["in"]:
        ledger.bitmaps.add(name, root)
    ledger.keep(root, row)
    ledger.index_traits(root)
    return told


def _changes(
    root: RecordId, name: str, row: Row, *, origin: _Origin, moment: Moment
) -> Iterator[MembershipChange]:
    is_in = name in row["in"]
    sources = [origin.own] if origin.own and name in origin.own["in"] else []
    for old, was in sorted(origin.absorbed.items()):
        if name in was["in"]:
            merged, belonged = moment._replace(cause="merged"), bool(sources)
            yield change_at(
                merged, name, change="moved", root=root, moved_from=old, belonged=belonged
            )
            sources.append(was)
    for old, was in sorted(origin.left.items()):
        if is_in and not sources and name in was["in"]:
            sources.append(was)
            parted = moment._replace(cause="parted")
            yield change_at(parted, name, change="moved", root=root, moved_from=old)
    if is_in and sources:
        row["in"][name] = min(was["in"][name] for was in sources)
    elif is_in:
        yield change_at(moment, name, change="entered", root=root)
    elif sources:
        yield change_at(moment, name, change="exited", root=root)
