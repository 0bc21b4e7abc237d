"""Read model: every change of membership, in the order of the log, for who watches or publishes.

Table `segment_changes`: revision/number -> {segment, change, customer, from, cause, at}. `entered`
and `exited` say what they say. `moved` says that `customer` belongs in place of `from`: with cause
`merged`, `from` is no customer any more; with `parted` it still is, and an `exited` of its own
follows if it does not belong. Kept for the last `REVISIONS_KEPT` revisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from domain.ids import RecordId
from projections.tables import ReadTables, Tables

CHANGES = "segment_changes"
TABLES = (CHANGES,)

REVISIONS_KEPT = 1_000_000
TRIMMED_EVERY_REVISIONS = 1_024

ChangeKind = Literal["entered", "exited", "moved"]
Cause = Literal["event", "time", "merged", "parted", "definition", "parked"]


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """A change of membership; `at` is the instant on the log's clock, in microseconds."""

    revision: int
    segment: str
    change: ChangeKind
    customer: RecordId
    moved_from: RecordId | None
    cause: Cause
    at: int


class Journal:
    """Writes the changes of one transaction."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._revision = 0
        self._number = 0

    def note(self, change: MembershipChange) -> None:
        """Add a change; revisions never go back."""
        if change.revision != self._revision:
            self._revision, self._number = change.revision, 0
        self._number += 1
        row = {
            "segment": change.segment,
            "change": change.change,
            "customer": change.customer,
            "from": change.moved_from,
            "cause": change.cause,
            "at": change.at,
        }
        self._tables.put(CHANGES, _place(change.revision, self._number), row)

    def trim(self, revision: int) -> None:
        """Forget what is older than is kept; called for every revision."""
        if revision % TRIMMED_EVERY_REVISIONS or revision <= REVISIONS_KEPT:
            return
        oldest = _place(revision - REVISIONS_KEPT, 0)
        outdated = []
        for key, _ in self._tables.scan(CHANGES, b""):
            if key >= oldest:
                break
            outdated.append(key)
        for key in outdated:
            self._tables.delete(CHANGES, key)


def changes(tables: ReadTables, *, after_revision: int = 0) -> Iterator[MembershipChange]:
    """Yield the kept changes after a revision, in order."""
    start = _place(after_revision + 1, 0)
    for key, row in tables.scan(CHANGES, b"", start=start):
        yield MembershipChange(
            revision=int(key.split(b"/")[0]),
            segment=row["segment"],
            change=row["change"],
            customer=RecordId(row["customer"]),
            moved_from=row["from"],
            cause=row["cause"],
            at=row["at"],
        )


def _place(revision: int, number: int) -> bytes:
    return f"{revision:020d}/{number:08d}".encode()
