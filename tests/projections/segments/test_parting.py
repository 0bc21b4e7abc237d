"""R16: records that part give `moved`, and nothing that is not so. Rows in, changes out."""

from __future__ import annotations

import pytest

from domain.ids import RecordId
from projections.customers import CUSTOMERS
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.segments.effective import active_set
from projections.segments.journal import MembershipChange, changes
from projections.segments.membership import MEMBERSHIPS, Ledger, Moment
from projections.segments.regrouping import regroup
from projections.tables import Transaction
from tests.projections.histories import record_id
from tests.projections.segments.happenings import Happenings

OLD, NEW = record_id(1), record_id(2)
Told = list[tuple[str, RecordId, RecordId | None, str]]


def merged(*doers: int) -> MemoryTables:
    """Two records that were joined, of which these have done what the segment asks for."""
    history = Happenings()
    history.rules()
    history.segment("buyers", 'seen("Order Completed")')
    for number in (1, 2):
        history.set(number, country="JP")
    for number in doers:
        history.did(number, "Order Completed")
    history.merge(1, 2)
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    return tables


def part(tables: MemoryTables) -> Told:
    """Undo the merge as the customers' model does, and judge."""
    transaction: Transaction = tables.begin()
    for record in (OLD, NEW):
        row = {"root": record, "members": [record], "edges": []}
        transaction.put(CUSTOMERS, record.encode(), row)
    revision = tables.checkpoint.revision + 1
    ledger = Ledger(transaction, active_set(transaction))
    regroup(ledger, {OLD, NEW}, Moment(revision, 1, "event"))
    ledger.bitmaps.store()
    transaction.commit(revision=revision, event_digest=b"", log_digest=b"")
    return [plain(change) for change in changes(tables, after_revision=revision - 1)]


def plain(change: MembershipChange) -> tuple[str, RecordId, RecordId | None, str]:
    return (change.change, change.customer, change.moved_from, change.cause)


@pytest.mark.parametrize(
    ("doers", "told"),
    [
        ((1,), []),
        ((2,), [("moved", NEW, OLD, "parted"), ("exited", OLD, None, "event")]),
        ((1, 2), [("moved", NEW, OLD, "parted")]),
        ((), []),
    ],
)
def test_an_undo_moves_whom_the_data_leaves_in(doers: tuple[int, ...], told: Told) -> None:
    tables = merged(*doers)
    assert part(tables) == told
    rows = {key.decode(): row for key, row in tables.scan(MEMBERSHIPS, b"")}
    belong = {root for root, row in rows.items() if "buyers" in row["in"]}
    assert belong == {record_id(number) for number in doers}
    assert {root: row["members"] for root, row in rows.items()} == {OLD: [OLD], NEW: [NEW]}


def test_a_merge_moves_the_absorbed_customer_and_enters_nobody() -> None:
    tables = merged(2)
    told = [plain(change) for change in changes(tables)]
    assert told == [("entered", NEW, None, "event"), ("moved", OLD, NEW, "merged")]
