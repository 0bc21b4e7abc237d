"""Read model: to which segments each customer belongs, since when, and until when that is sure.

Table `memberships`: root -> {members: its records, in: {segment: [revision, at]}, due: {segment:
instant}, next: the first of these}. Every change of a row goes through `Ledger`, which keeps the
timers, the sets and the journal in step with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from domain.ids import RecordId
from projections import customers
from projections.rows import Row
from projections.segments import timers
from projections.segments.active import ActiveSet, Indexes, Standing
from projections.segments.bitmaps import Bitmaps
from projections.segments.candidates import Candidates
from projections.segments.evaluation import Answer, evaluator
from projections.segments.facts import Facts
from projections.segments.journal import Cause, ChangeKind, Journal, MembershipChange
from projections.segments.timelines import Timelines
from projections.segments.trait_indexes import TraitIndexes
from projections.tables import ReadTables, Tables

MEMBERSHIPS = "memberships"
TABLES = (MEMBERSHIPS,)


class Moment(NamedTuple):
    """When something is judged: at which revision, at which instant, and because of what."""

    revision: int
    at: int
    cause: Cause


class Ledger:
    """The memberships as one transaction changes them."""

    def __init__(self, tables: Tables, active: ActiveSet) -> None:
        self.tables = tables
        self.active = active
        self.journal = Journal(tables)
        self.bitmaps = Bitmaps(tables)
        self.timelines = Timelines(tables)
        self.candidates = Candidates(tables)
        self.trait_indexes = TraitIndexes(tables)
        self.earliest_due: int | None = None
        """No timer is due before; one that was moved since may be due later."""

    def row(self, root: RecordId) -> Row | None:
        """Read a customer's row."""
        return self.tables.get(MEMBERSHIPS, root.encode())

    def judge(self, root: RecordId, touched: Iterable[int], moment: Moment) -> None:
        """Evaluate what these inputs decide for a customer whose records are as they were."""
        row = self.row(root)
        indexes = self.active.closure(touched)
        is_new = row is None
        if row is None:
            row = new_row(customers.members(self.tables, root))
            for index in sorted(self.active.blank - indexes):
                self._set(row, root, self.active.order[index], is_in=True, moment=moment)
        if self.evaluate(root, row, indexes, moment=moment) or is_new:
            self.keep(root, row)
        else:
            self.candidates.forget(root)

    def evaluate(self, root: RecordId, row: Row, indexes: Indexes, *, moment: Moment) -> bool:
        """Evaluate segments for a customer, and tell what changed; true where the row has."""
        if not indexes:
            return False
        facts = self.facts(row["members"])
        belongs, due, has_changed = row["in"], row["due"], False
        for index in sorted(indexes):
            standing = self.active.order[index]
            name = standing.name
            was_due = due.get(name)
            is_in = self.ask(row, standing, facts, now=moment.at)
            has_changed |= due.get(name) != was_due
            if is_in != (name in belongs):
                has_changed = True
                self._set(row, root, standing, is_in=is_in, moment=moment)
        return has_changed

    def facts(self, members: Iterable[RecordId], *, are_keys_held: bool = False) -> Facts:
        """Give what is known of some records, as the rows stand."""
        return Facts(
            self.tables,
            tuple(members),
            self.active.rules,
            timelines=self.timelines,
            are_keys_held=are_keys_held,
        )

    @staticmethod
    def ask(row: Row, standing: Standing, facts: Facts, *, now: int) -> bool:
        """Answer one segment and note its instant; the segments that it uses stand in the row."""
        answer = evaluator().answer(
            standing.expression, facts, sight=standing.sight, now=now, belongs=row["in"]
        )
        return _noted(row, standing, answer)

    def take(
        self, root: RecordId, row: Row, standing: Standing, *, answer: Answer, moment: Moment
    ) -> None:
        """Take an answer that was made before, and tell what changed."""
        is_in = _noted(row, standing, answer)
        if is_in != (standing.name in row["in"]):
            self._set(row, root, standing, is_in=is_in, moment=moment)

    def keep(self, root: RecordId, row: Row) -> None:
        """Write a row, and move its timer."""
        self.candidates.forget(root)
        before, row["next"] = row["next"], min(row["due"].values(), default=None)
        timers.move(self.tables, root, before=before, after=row["next"])
        if row["next"] is not None:
            self.earliest_due = min(row["next"], self.earliest_due or row["next"])
        self.tables.put(MEMBERSHIPS, root.encode(), row)

    def remove(self, root: RecordId, row: Row) -> None:
        """Take a customer off, without a word of it."""
        self.candidates.forget(root)
        self.trait_indexes.remove(root)
        for name in row["in"]:
            self.bitmaps.discard(name, root)
        timers.move(self.tables, root, before=row["next"], after=None)
        self.tables.delete(MEMBERSHIPS, root.encode())

    def index_traits(self, root: RecordId) -> None:
        """Index the traits of a customer anew, if it is one."""
        row = self.row(root)
        if row is not None:
            self.trait_indexes.update(root, self.facts(row["members"]))

    def make_room(self) -> None:
        """Put away what was judged so far: for who judges more than a process can hold."""
        self.timelines.forget_all()
        self.tables.make_room()

    def withdraw(self, root: RecordId, moment: Moment) -> None:
        """Take a customer out of everything: it is parked, and nobody may rely on it (R10)."""
        row = self.row(root)
        if row is None:
            return
        for name in sorted(row["in"]):
            self.tell("exited", name, root, moment=moment)
        self.remove(root, row)

    def forget(self, root: RecordId, row: Row, name: str, *, moment: Moment) -> None:
        """Take a customer out of a segment that there is no more."""
        row["due"].pop(name, None)
        if row["in"].pop(name, None) is not None:
            self.tell("exited", name, root, moment=moment)

    def tell(self, change: ChangeKind, name: str, root: RecordId, *, moment: Moment) -> None:
        """Journal a change."""
        self.journal.note(change_at(moment, name, change=change, root=root))

    def _set(
        self, row: Row, root: RecordId, standing: Standing, *, is_in: bool, moment: Moment
    ) -> None:
        if is_in:
            row["in"][standing.name] = [moment.revision, moment.at]
            self.bitmaps.add(standing.name, root)
        else:
            del row["in"][standing.name]
            self.bitmaps.discard(standing.name, root)
        self.tell("entered" if is_in else "exited", standing.name, root, moment=moment)


def change_at(
    moment: Moment,
    name: str,
    *,
    change: ChangeKind,
    root: RecordId,
    moved_from: RecordId | None = None,
    belonged: bool = False,
) -> MembershipChange:
    """Make the change of a membership in a segment at a moment."""
    return MembershipChange(
        moment.revision, name, change, root, moved_from, moment.cause, moment.at, belonged
    )


def _noted(row: Row, standing: Standing, answer: Answer) -> bool:
    if answer.due is None:
        row["due"].pop(standing.name, None)
    else:
        row["due"][standing.name] = answer.due
    return answer.is_in


def new_row(members: Iterable[RecordId]) -> Row:
    """Make the row of a customer of whom nothing was judged yet."""
    return {"members": list(members), "in": {}, "due": {}, "next": None}


def is_anybody_judged(tables: Tables) -> bool:
    """Say whether there is a customer that is not parked."""
    return next(tables.keys_from(MEMBERSHIPS, b""), None) is not None


def read_membership(tables: ReadTables, root: RecordId) -> Row | None:
    """Read a customer's row; None for nobody, and for a customer that is parked."""
    return tables.get(MEMBERSHIPS, root.encode())
