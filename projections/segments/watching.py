"""Changes of a segment as one purpose may see them: of the people for whom it is open (R12).

A watch holds who is in the segment and who has the purpose open, as of a place in the journal, and
folds the journal on from there; what it tells is a function of the log and of that place alone, so
any process can go on where another one stopped. `following.py` does the like for one customer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from uuid import UUID

from pyroaring import BitMap

from domain.ids import RecordId
from projections.segments.active import purpose_set
from projections.segments.bitmaps import number_of, numbering, read_bitmap
from projections.segments.errors import ChangesNotKept, InvalidToken
from projections.segments.journal import (
    CUSTOMER_BITS,
    NUMBER_MAX,
    ChangeKind,
    MembershipChange,
    Position,
    behind,
    everything_after,
    is_kept_after,
    read_position,
    write_position,
)
from projections.tables import ReadTables

JOURNAL_ROWS_READ_MAX = 5_000
"""Rows of one snapshot; the last revision among them is always read to its end."""

REVISION_MAX = 2**63 - 1
_TOKEN = re.compile(
    r"(?P<position>[0-9]{1,19}\.[0-9a-f]{1,60})\.(?P<told>[0-9a-f]{1,65})"
    r"\.(?P<mark>[0-9a-f]{16})"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands: behind a position, and what comes next up to `told` (`_order`)."""

    position: Position
    told: int = 0

    def token(self, mark: str) -> str:
        """Write it for the reader to keep, with the mark of what is watched."""
        return f"{write_position(self.position)}.{self.told:x}.{mark}"


def mark_of(watched: str, *, purpose: str) -> str:
    """Make the mark by which a token is known to be of a segment, or a record, and a purpose."""
    return sha256(f"{watched}/{purpose}".encode()).hexdigest()[:16]


def read_place(token: str, *, marks: Collection[str], after_revision: int) -> Place:
    """Read a token that has one of these marks, or make a place of a revision.

    Raises `InvalidToken`.
    """
    if not token:
        return Place(behind(min(after_revision, REVISION_MAX)))
    written = _TOKEN.fullmatch(token)
    if written is None:
        raise InvalidToken("this is no token of a change")
    position, told = read_position(written["position"]), int(written["told"], 16)
    if position.revision > REVISION_MAX or position.number > NUMBER_MAX:
        raise InvalidToken("this is no token of a change")
    if written["mark"] not in marks:
        raise InvalidToken("this is a token of another watch")
    return Place(position, told)


def require_kept(tables: ReadTables, place: Place) -> None:
    """Require that the journal reaches back to a place. Raises `ChangesNotKept`."""
    # What is behind a place within a revision is of that revision.
    before = place.position.revision - (place.position.number < NUMBER_MAX)
    if not is_kept_after(max(before, 0), now=tables.checkpoint.revision):
        raise ChangesNotKept("the changes after this are not kept any more")


@dataclass(frozen=True, slots=True)
class Told:
    """A change and the place behind it."""

    change: MembershipChange
    place: Place


class SegmentWatch:
    """Fold the journal for one segment and one purpose; one instance a reader."""

    def __init__(self, segment: str, purpose: str, place: Place) -> None:
        self._segment = segment
        self._purpose = purpose_set(purpose)
        self._place = place
        self._sets: dict[str, BitMap] | None = None
        self._numbering = b""
        self.is_behind = False
        """Whether the last read stopped before the end of the journal."""

    def read(self, tables: ReadTables) -> list[Told]:
        """Give what comes next, of a limited part of the journal. Raises `ChangesNotKept`.

        It may be nothing that can be seen, and more come behind it: `is_behind` says so.
        """
        require_kept(tables, self._place)
        if tables.checkpoint.revision < self._place.position.revision:
            return []  # these rows are older than what the reader knows
        if self._sets is None or self._numbering != numbering(tables):
            self._numbering = numbering(tables)
            self._sets = self._as_of(tables, self._place.position)
        found: list[Told] = []
        rows, self.is_behind = 0, False
        for position, group in _groups(tables, self._place.position):
            if rows >= JOURNAL_ROWS_READ_MAX:
                self.is_behind = True
                break
            rows += len(group)
            told = self._fold(tables, [c for c in group if c.segment in self._sets])
            told.sort(key=_order)
            before = self._place
            for change in told:
                is_last = change is told[-1]
                place = Place(position) if is_last else Place(before.position, _order(change))
                if _order(change) > before.told:
                    found.append(Told(change, place))
            self._place = Place(position)
        return found

    def _as_of(self, tables: ReadTables, position: Position) -> dict[str, BitMap]:
        """Give both sets as they were: those of now, with what came after taken back."""
        sets = {name: read_bitmap(tables, name) for name in (self._segment, self._purpose)}
        first: dict[tuple[str, RecordId], bool] = {}
        for _, change in everything_after(tables, position):
            if change.segment in sets:
                for customer, was_in in _before(change):
                    first.setdefault((change.segment, customer), was_in)
        for (name, customer), was_in in first.items():
            number = number_of(tables, customer)
            if number is not None:
                (sets[name].add if was_in else sets[name].discard)(number)
        return sets

    def _fold(self, tables: ReadTables, group: list[MembershipChange]) -> list[MembershipChange]:
        """Apply what changed at one instant; give what of it can be seen."""
        customers = dict.fromkeys(c for change in group for c in _customers(change))
        before = {customer: self._sees(tables, customer) for customer in customers}
        for change in group:
            self._apply(tables, change)
        after = {customer: self._sees(tables, customer) for customer in customers}
        moved = list(self._moved(group, before, after))
        settled = {change.customer for change in moved if not change.belonged}
        settled |= {c.moved_from for c in moved if c.moved_from and c.cause == "merged"}
        last = {c: change for change in group for c in _customers(change)}
        return moved + [
            replace(
                last[customer],
                segment=self._segment,
                change="entered" if after[customer] else "exited",
                customer=customer,
                moved_from=None,
                belonged=False,
            )
            for customer in customers
            if before[customer] != after[customer] and customer not in settled
        ]

    def _moved(
        self,
        group: list[MembershipChange],
        before: dict[RecordId, bool],
        after: dict[RecordId, bool],
    ) -> Iterator[MembershipChange]:
        arrived: set[RecordId] = set()
        for change in group:
            old, new = change.moved_from, change.customer
            if change.segment == self._segment and old and before[old] and after[new]:
                yield replace(change, belonged=before[new] or new in arrived)
                arrived.add(new)

    def _apply(self, tables: ReadTables, change: MembershipChange) -> None:
        assert self._sets is not None
        members = self._sets[change.segment]
        for customer, is_in in _after(change):
            number = number_of(tables, customer)
            if number is not None:
                (members.add if is_in else members.discard)(number)

    def _sees(self, tables: ReadTables, customer: RecordId) -> bool:
        assert self._sets is not None
        number = number_of(tables, customer)
        return number is not None and all(number in members for members in self._sets.values())


def _groups(
    tables: ReadTables, after: Position
) -> Iterator[tuple[Position, list[MembershipChange]]]:
    """Yield what changed instant by instant, with the last position."""
    by_instant = groupby(everything_after(tables, after), lambda row: (row[1].revision, row[1].at))
    for _, found in by_instant:
        group = list(found)
        yield group[-1][0], [change for _, change in group]


def _before(change: MembershipChange) -> Iterable[tuple[RecordId, bool]]:
    if change.moved_from is not None:
        return ((change.customer, change.belonged), (change.moved_from, True))
    return ((change.customer, change.change == "exited"),)


def _after(change: MembershipChange) -> Iterable[tuple[RecordId, bool]]:
    kind: ChangeKind = change.change
    if change.moved_from is not None and change.cause == "merged":
        return ((change.moved_from, False), (change.customer, True))
    return ((change.customer, kind != "exited"),)


def _customers(change: MembershipChange) -> Iterable[RecordId]:
    return (change.moved_from, change.customer) if change.moved_from else (change.customer,)


def _order(change: MembershipChange) -> int:
    """Order what is told of one instant: by whom, the same whoever else is told of or erased."""
    is_settled = change.moved_from is None  # whom somebody takes the place of has not left yet
    moved_from = 0 if change.moved_from is None else UUID(change.moved_from).int
    told = int(is_settled) << CUSTOMER_BITS | UUID(change.customer).int
    return told << CUSTOMER_BITS | moved_from
