"""Read model: every change of membership, in the order of the log, for who watches or publishes.

Table `~segment_changes`: revision/number -> {segment, change, customer, from, belonged, cause, at},
also of the given sets (`~everyone`, `~purpose.x`); a revision is in one transaction, the last
`REVISIONS_KEPT` are kept. A number says when, of whom and of what, so it does not depend on what is
told of others, and a reader can go on behind it. `~changes_of_customer` leads to what an erasure
takes away: that no later fold finds, so both are in no digest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple
from uuid import UUID

from domain.ids import RecordId
from projections.rows import Row
from projections.tables import ReadTables, Tables

CHANGES = "~segment_changes"
OF_CUSTOMER = "~changes_of_customer"
LOCAL_TABLES = (CHANGES, OF_CUSTOMER)

REVISIONS_KEPT = 1_000_000
TRIMMED_EVERY_REVISIONS = 1_024
TRIMMED_AT_ONCE = 10_000
"""Changes: one revision may have as many as there are customers."""

RANK_BITS, CUSTOMER_BITS, SEGMENT_BITS, ORDINAL_BITS = 2, 128, 32, 16
NUMBER_BITS = 62 + RANK_BITS + CUSTOMER_BITS + SEGMENT_BITS + ORDINAL_BITS
NUMBER_MAX = (1 << NUMBER_BITS) - 1
SEGMENT_NUMBERS_CACHED_MAX = 4_096
_HEX_DIGITS = -(-NUMBER_BITS // 4)
_COUNTED_MAX = 0x99_999_999
"""Places that were written when changes were counted: the last of their revision, as a rule."""

ChangeKind = Literal["entered", "exited", "moved"]
"""`entered` and `exited` say what they say. `moved` says that `customer` belongs in place of
`moved_from`: with cause `merged`, that one is no customer any more; with `parted` it still is, and
an `exited` of its own follows if it does not belong.
"""
Cause = Literal["event", "time", "merged", "parted", "definition", "parked", "erased"]


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
    belonged: bool = False
    """Of `moved`, whether `customer` belonged already by itself."""


class Position(NamedTuple):
    """A place in the journal: that of a change, or behind all changes of a revision."""

    revision: int
    number: int


def behind(revision: int) -> Position:
    """Give the place behind everything of a revision."""
    return Position(revision, NUMBER_MAX)


def write_position(position: Position) -> str:
    """Write a place as text."""
    return f"{position.revision}.{position.number:x}"


def read_position(text: str) -> Position:
    """Read what `write_position` wrote. Raises `ValueError`."""
    revision, _, written = text.partition(".")
    number = int(written, 16)
    return behind(int(revision)) if 0 < number <= _COUNTED_MAX else Position(int(revision), number)


class Journal:
    """Writes the changes of one transaction."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def note(self, change: MembershipChange) -> None:
        """Add a change; revisions never go back."""
        row = {
            "segment": change.segment,
            "change": change.change,
            "customer": change.customer,
            "from": change.moved_from,
            "belonged": change.belonged,
            "cause": change.cause,
            "at": change.at,
        }
        self._write(self._free_place(change), row)

    def _free_place(self, change: MembershipChange) -> bytes:
        """Give the place of a change: behind what was told of the same at the same moment."""
        number = _first_number(change)
        while self._tables.get(CHANGES, _place(change.revision, number)) is not None:
            number += 1
        return _place(change.revision, number)

    def forget(self, records: Collection[RecordId]) -> None:
        """Leave nothing that was told of these records; of others, what became of them."""
        for record in records:
            prefix = _index_key(record, b"")
            for key, _ in list(self._tables.scan(OF_CUSTOMER, prefix)):
                place = key.removeprefix(prefix)
                row = self._tables.get(CHANGES, place)
                self._drop(place)
                left = row and _without(row, records)
                if left:
                    self._write(place, left)

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
        for number, key in enumerate(outdated, start=1):
            self._drop(key)
            if number % TRIMMED_AT_ONCE == 0:
                self._tables.make_room()

    def _write(self, place: bytes, row: Row) -> None:
        self._tables.add(CHANGES, place, row)
        for customer in _named(row):
            self._tables.add(OF_CUSTOMER, _index_key(customer, place), {})

    def _drop(self, place: bytes) -> None:
        row = self._tables.get(CHANGES, place)
        if row is not None:
            self._tables.delete(CHANGES, place)
            for customer in _named(row):
                self._tables.delete(OF_CUSTOMER, _index_key(customer, place))


def changes(tables: ReadTables, *, after_revision: int = 0) -> Iterator[MembershipChange]:
    """Yield the kept changes of the workspace's own segments after a revision, in order."""
    for _, change in everything_after(tables, behind(after_revision)):
        if not change.segment.startswith("~"):
            yield change


def everything_after(
    tables: ReadTables, after: Position
) -> Iterator[tuple[Position, MembershipChange]]:
    """Yield the kept changes behind a place, of the given sets as well, in order."""
    start = _place(after.revision, after.number + 1)
    for key, row in tables.scan(CHANGES, b"", start=start):
        revision, _, number = key.partition(b"/")
        yield Position(int(revision), int(number, 16)), _read(key, row)


def changes_of(tables: ReadTables, record: RecordId) -> Iterator[MembershipChange]:
    """Yield the kept changes that name a record, of the given sets as well, in order."""
    prefix = _index_key(record, b"")
    for key, _ in tables.scan(OF_CUSTOMER, prefix):
        place = key.removeprefix(prefix)
        row = tables.get(CHANGES, place)
        if row is not None:
            yield _read(place, row)


def is_kept_after(revision: int, *, now: int) -> bool:
    """Say whether every change after a revision is still kept at another, later one."""
    return behind(revision) >= oldest_kept(now)


def oldest_kept(now: int) -> Position:
    """Give the place behind which every change is kept at a revision."""
    trimmed = now - now % TRIMMED_EVERY_REVISIONS
    return behind(max(trimmed - REVISIONS_KEPT, 1) - 1)


def _read(place: bytes, row: Row) -> MembershipChange:
    return MembershipChange(
        revision=int(place.partition(b"/")[0]),
        segment=row["segment"],
        change=row["change"],
        customer=RecordId(row["customer"]),
        moved_from=row["from"],
        cause=row["cause"],
        at=row["at"],
        belonged=row["belonged"],
    )


def _without(row: Row, gone: Collection[RecordId]) -> Row | None:
    """Give what a change was for the one of two who is not gone; None where it was none."""
    customer, moved_from = row["customer"], row["from"]
    if moved_from is None or (customer in gone and moved_from in gone):
        return None
    if customer not in gone:
        return None if row["belonged"] else {**row, "change": "entered", "from": None}
    if row["cause"] != "merged":  # who parted from it belongs or not by a word of its own
        return None
    return {**row, "change": "exited", "customer": moved_from, "from": None}


def _named(row: Row) -> set[str]:
    return {row["customer"], row["from"]} - {None}


def _index_key(customer: str, place: bytes) -> bytes:
    return f"{customer}/".encode() + place


def _first_number(change: MembershipChange) -> int:
    """Give the number of what is told of a customer and a segment at an instant.

    What time alone brought about came first. Whom somebody takes the place of has not left yet.
    """
    rank = 0 if change.cause == "time" else 1 if change.change == "moved" else 2
    moment = change.at << RANK_BITS | rank
    whose = moment << CUSTOMER_BITS | UUID(change.customer).int
    return (whose << SEGMENT_BITS | _segment_number(change.segment)) << ORDINAL_BITS


@lru_cache(maxsize=SEGMENT_NUMBERS_CACHED_MAX)
def _segment_number(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[: SEGMENT_BITS // 8], "big")


def _place(revision: int, number: int) -> bytes:
    return f"{revision:020d}/{number:0{_HEX_DIGITS}x}".encode()
