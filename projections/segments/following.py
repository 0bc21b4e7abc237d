"""Changes of one customer as a purpose may see them (R12), and the segments that it belongs to.

What was recorded of a customer is told once for all that came since the last look, by the newest
revision of its records; the rest comes from the journal. A place is a function of the log, as in
`watching.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from domain.ids import RecordId
from domain.segments import Segment
from projections import customers, heads
from projections.erasures import erasure_of
from projections.instants import microseconds
from projections.rows import Row
from projections.rules import read_rules
from projections.segments.active import EVERYONE, purpose_set
from projections.segments.definitions import read_segments, sure_until
from projections.segments.journal import (
    Cause,
    MembershipChange,
    Position,
    behind,
    everything_after,
)
from projections.segments.membership import read_membership
from projections.segments.watching import Place, require_kept
from projections.tables import ReadTables

CustomerChangeKind = Literal[
    "data",
    "purpose_opened",
    "purpose_closed",
    "merged",
    "parted",
    "segment_entered",
    "segment_exited",
    "segment_moved",
    "erased",
]
_OF_SEGMENTS: dict[str, CustomerChangeKind] = {
    "entered": "segment_entered",
    "exited": "segment_exited",
    "moved": "segment_moved",
}


@dataclass(frozen=True, slots=True)
class Membership:
    """That a customer belongs; instants are microseconds since the year 1."""

    segment: str
    since_revision: int
    since_at: int
    sure_until: int | None


@dataclass(frozen=True, slots=True)
class CustomerChange:
    """A change of a customer and the place behind it; `at` as in the journal, None of data."""

    kind: CustomerChangeKind
    revision: int
    customer: RecordId
    place: Place
    other: RecordId | None = None
    segment: str = ""
    cause: Cause = "event"
    at: int | None = None


def is_open_for(
    tables: ReadTables, root: RecordId, purpose: str, *, now: datetime | None = None
) -> bool:
    """Say whether a purpose is open for a customer, as of the checkpoint, and still is `now`."""
    row, place = read_membership(tables, root), purpose_set(purpose)
    if row is None or place not in row["in"]:
        return False
    due = row["due"].get(place)
    return now is None or due is None or microseconds(now) < due


def segments_of(
    tables: ReadTables,
    root: RecordId,
    purpose: str,
    *,
    segments: Mapping[str, Segment] | None = None,
    now: datetime | None = None,
) -> list[Membership]:
    """List to what a customer belongs that serves a purpose, by name; nothing if it is closed.

    Who asks for many gives the `segments`, read once.
    """
    row = read_membership(tables, root)
    if row is None or not is_open_for(tables, root, purpose, now=now):
        return []
    known = read_segments(tables) if segments is None else segments
    served = _serving(known, purpose)
    asked = (purpose_set(purpose),)
    return [found for found in memberships_in(known, row, asked) if found.segment in served]


def memberships_in(
    segments: Mapping[str, Segment], row: Row, asked: Sequence[str] = ()
) -> list[Membership]:
    """List the workspace's own segments that a row of `memberships` names, by name.

    They are as sure as what else is `asked`.
    """
    return [
        Membership(name, revision, at, sure_until((name, *asked), row["due"], read=segments.get))
        for name, (revision, at) in sorted(row["in"].items())
        if not name.startswith("~")
    ]


def served_by(tables: ReadTables, purpose: str) -> set[str]:
    """Name the active segments that serve a purpose (R12).

    An exception may shape audiences of others, but tells of somebody only to what it serves.
    """
    return _serving(read_segments(tables), purpose)


def _serving(segments: Mapping[str, Segment], purpose: str) -> set[str]:
    return {
        name
        for name, segment in segments.items()
        if segment.active and purpose in segment.active.purposes
    }


class CustomerWatch:
    """Look for what changed of the customer of a record; one instance a reader."""

    def __init__(
        self,
        record_id: RecordId,
        purpose: str,
        place: Place,
        *,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._now = now
        self._record = record_id
        self._purpose = purpose
        self._place = place

    def read(self, tables: ReadTables) -> list[CustomerChange]:
        """Give what has changed since the last look, in order. Raises `ChangesNotKept`."""
        require_kept(tables, self._place)
        read_rules(tables).purpose(self._purpose)
        if tables.checkpoint.revision < self._place.position.revision:
            return []  # these rows are older than what the reader knows
        root = customers.root(tables, self._record)
        if root is None:
            return []
        if customers.erased_since(tables, root) is not None:
            return self._erased(tables, root)
        members = customers.members(tables, root)
        found = [*self._journaled(tables, frozenset(members))]
        found += self._data(tables, root, members)
        now = self._now() if self._now else None
        if not is_open_for(tables, root, self._purpose, now=now):
            found = [change for change in found if _may_always_be_told(change)]
        self._place = Place(behind(tables.checkpoint.revision))
        return sorted(found, key=lambda change: change.place.position)

    def _erased(self, tables: ReadTables, root: RecordId) -> list[CustomerChange]:
        """Give the one change that is left of somebody: that they were erased."""
        erasure = erasure_of(tables, root)
        place, self._place = self._place, Place(behind(tables.checkpoint.revision))
        if erasure is None or erasure.revision <= place.position.revision:
            return []
        last = Place(Position(erasure.revision, 0))
        return [CustomerChange("erased", erasure.revision, root, last, cause="erased")]

    def _data(
        self, tables: ReadTables, root: RecordId, members: tuple[RecordId, ...]
    ) -> Iterator[CustomerChange]:
        known = [head for member in members if (head := heads.head_of(tables, member))]
        newest = max((head.revision for head in known), default=0)
        if newest > self._place.position.revision:
            yield CustomerChange("data", newest, root, Place(Position(newest, 0)))

    def _journaled(
        self, tables: ReadTables, members: frozenset[RecordId]
    ) -> Iterator[CustomerChange]:
        served = served_by(tables, self._purpose)
        for position, change in everything_after(tables, self._place.position):
            if change.customer not in members and change.moved_from not in members:
                continue
            kind = self._kind(change, served)
            if kind is not None:
                segment = "" if change.segment.startswith("~") else change.segment
                yield CustomerChange(
                    kind=kind,
                    revision=change.revision,
                    customer=change.customer,
                    place=Place(position),
                    other=change.moved_from,
                    segment=segment,
                    cause=change.cause,
                    at=change.at,
                )

    def _kind(self, change: MembershipChange, served: set[str]) -> CustomerChangeKind | None:
        if change.segment == EVERYONE and change.moved_from is not None:
            return "merged" if change.cause == "merged" else "parted"
        if change.segment == purpose_set(self._purpose) and change.change != "moved":
            return "purpose_opened" if change.change == "entered" else "purpose_closed"
        return _OF_SEGMENTS[change.change] if change.segment in served else None


def _may_always_be_told(change: CustomerChange) -> bool:
    return change.kind in {"purpose_opened", "purpose_closed", "merged", "parted"}
