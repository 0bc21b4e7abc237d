"""Memberships of somebody who is erased: every one ends, and the journal lets go of them (R14).

The rows are then what a fold without the person's keys comes to (R17). That reaches those who were
once one customer with the erased and parted: what was so of them in common is not known any more,
so they belong since the parting at the earliest.
"""

from __future__ import annotations

from collections.abc import Collection

from domain.ids import RecordId
from projections import customers
from projections.customers import Parting
from projections.segments.active import EVERYONE
from projections.segments.membership import MEMBERSHIPS, Ledger, Moment


def let_go(
    ledger: Ledger, root: RecordId, members: Collection[RecordId], *, moment: Moment
) -> None:
    """End every membership of a customer, and tell that it is erased."""
    left = {EVERYONE}
    for member in members:
        row = ledger.row(member)
        if row is not None:
            left |= row["in"].keys()
            ledger.remove(member, row)
    ledger.journal.forget(members)
    for name in sorted(left):
        ledger.tell("exited", name, root, moment=moment)
    for record, parting in customers.parted_from(ledger.tables, members).items():
        _part(ledger, record, parting)


def _part(ledger: Ledger, record: RecordId, parting: Parting) -> None:
    """Let what somebody belongs to begin where they parted."""
    root = customers.root(ledger.tables, record)
    row = None if root is None else ledger.row(root)
    if root is not None and row is not None:
        since = [parting.revision, parting.at]
        row["in"] = {name: max(known, since) for name, known in row["in"].items()}
        ledger.tables.put(MEMBERSHIPS, root.encode(), row)
