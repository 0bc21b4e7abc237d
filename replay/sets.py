"""Proof that the sets that audiences are counted from are those that the rows beside them give.

Sets are over numbers of a replica's own, and in no digest. `verify.py` asks for this once the rows
are proved. Not judged is what a replica may do in its own time: answers for a definition that waits
(`candidates.py`), who is still to be indexed, and what is left of an index that nobody asks for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from pyroaring import BitMap

from domain.ids import RecordId
from eventlog.keys.port import NoKey
from projections.errors import RowUnreadable
from projections.rows import Row
from projections.rules import read_rules
from projections.segments.bitmaps import CUSTOMERS, MEMBERS, NUMBERS, customer_numbered, number_of
from projections.segments.facts import Facts
from projections.segments.membership import MEMBERSHIPS
from projections.segments.slices import in_slices
from projections.segments.trait_indexes import (
    PENDING,
    PRESENT,
    SETS,
    VALUES,
    Build,
    builds_in_force,
    numbers_valued,
    set_place,
    value_place,
)
from projections.sets import read_set
from projections.tables import ReadTables
from replay.divergence import Difference, Divergence

ENTRIES_AT_ONCE_MAX = 10_000
"""Of an index over traits that are compared in one step."""


class SetProof:
    """Compares every set with what the rows say, and keeps count of what differs."""

    def __init__(self, tables: ReadTables) -> None:
        self.tables = tables
        self.compared = 0
        """Sets."""
        self.differences = 0
        """Members of sets, and customers with their numbers or values."""
        self.first: Divergence | None = None
        self._rules = read_rules(tables)
        self._members: defaultdict[str, BitMap] = defaultdict(BitMap)
        keyed = tables.codec.index_key is not None
        builds = builds_in_force(tables, self._rules) if keyed else {}
        self._indexes = [_Index(self, slot, build) for slot, build in builds.items()]

    def steps(self) -> Iterator[int]:
        """Compare everything, in steps that each take a moment; yield the sets so far.

        Raises `KeysNotHeld`.
        """
        found = self.tables.scan(MEMBERSHIPS, b"")
        for rows in in_slices(self.tables, found, self._read_of):
            for key, row in rows:
                self._take(RecordId(key.decode()), row)
            yield self.compared
        stored = {key.decode() for key, _ in self.tables.scan_stored(MEMBERS, b"")}
        for name in sorted(stored | self._members.keys()):
            members = self.members_at(MEMBERS, name, name.encode())
            if members is not None:
                self.compare(MEMBERS, name, wanted=self._members[name], present=members)
            yield self.compared
        for index in self._indexes:
            yield from index.steps()

    def compare(self, table: str, key: str, *, wanted: BitMap, present: BitMap) -> None:
        """Compare a set with what it must be."""
        differing = wanted ^ present
        if differing:
            first = differing[0]
            difference: Difference = "missing" if first in wanted else "unexpected"
            root = customer_numbered(self.tables, first)
            self.differs(table, key, difference, record=root, count=len(differing))

    def members_at(self, table: str, key: str, place: bytes) -> BitMap | None:
        """Read a set; None where it cannot be, which is told."""
        self.compared += 1
        try:
            return read_set(self.tables.load(table, place))
        except (ValueError, IndexError):
            self.differs(table, key, "different")
            return None

    def differs(
        self,
        table: str,
        key: str,
        difference: Difference,
        *,
        record: RecordId | None = None,
        count: int = 1,
    ) -> None:
        """Tell that something differs, with whom first and with how many."""
        self.differences += count
        self.first = self.first or Divergence(table, key, difference, record=record or "")

    def _read_of(self, found: tuple[bytes, Row]) -> list[str]:
        """Name the records whose keys a customer takes."""
        members: list[str] = found[1]["members"] if self._indexes else []
        return members

    def _take(self, root: RecordId, row: Row) -> None:
        number = number_of(self.tables, root)
        if number is None or customer_numbered(self.tables, number) != root:
            table = NUMBERS if number is None else CUSTOMERS
            self.differs(table, root, "different", record=root)
            return
        for name in row["in"]:
            self._members[name].add(number)
        if self._indexes:
            members = tuple(map(RecordId, row["members"]))
            answers = self.tables.codec.keys_of(members) or {}
            is_erased = NoKey.DESTROYED in answers.values()  # since the rows were written
            facts = Facts(self.tables, members, self._rules, are_keys_held=True)
            for index in self._indexes:
                index.take(number, None if is_erased else facts)


class _Index:
    """One index over a trait for a purpose."""

    def __init__(self, proof: SetProof, slot: str, build: Build) -> None:
        self._proof = proof
        self._slot = slot
        self._build = build
        self._tables = proof.tables
        self._pending = proof.members_at(SETS, slot, set_place(build, PENDING)) or BitMap()
        self._valued = BitMap()
        """Of whom the rows say that they have the trait."""
        self._untold = BitMap()
        """Of whom nobody can say any more what they had."""

    def take(self, number: int, facts: Facts | None) -> None:
        """Compare the value that is noted of a customer; without facts nothing is known of it."""
        if number in self._pending:
            return
        try:
            key = None if facts is None else self._build.key_of(facts, self._tables.codec.index_key)
        except RowUnreadable:
            facts = None
        if facts is None:
            self._untold.add(number)
        elif key is not None:
            self._valued.add(number)
            noted = self._tables.load(VALUES, value_place(self._build, number))
            if noted is not None and noted != key:
                self._differs(VALUES, "different", number)

    def steps(self) -> Iterator[int]:
        """Compare who has which value with the rows, then the set of each value with that."""
        noted = BitMap(numbers_valued(self._tables, self._build))
        yield self._proof.compared
        known = noted - self._untold
        self._proof.compare(VALUES, self._slot, wanted=self._valued, present=known)
        present = self._proof.members_at(SETS, self._slot, set_place(self._build, PRESENT))
        if present is not None:
            self._proof.compare(SETS, self._slot, wanted=noted, present=present)
        placed, members = BitMap(), self._members()
        while piece := list(islice(members, ENTRIES_AT_ONCE_MAX)):
            for key, number in piece:
                if self._tables.load(VALUES, value_place(self._build, number)) == key:
                    placed.add(number)
                else:
                    self._differs(SETS, "unexpected", number)
            yield self._proof.compared
        self._proof.compare(SETS, self._slot, wanted=noted, present=placed)

    def _members(self) -> Iterator[tuple[bytes, int]]:
        """Yield who is in the set of which value."""
        prefix = set_place(self._build, b"")
        for place, _ in self._tables.scan_stored(SETS, prefix):
            key = place.removeprefix(prefix)
            if key not in (PRESENT, PENDING):
                for number in self._proof.members_at(SETS, self._slot, place) or ():
                    yield key, number

    def _differs(self, table: str, difference: Difference, number: int) -> None:
        root = customer_numbered(self._tables, number)
        self._proof.differs(table, self._slot, difference, record=root)
