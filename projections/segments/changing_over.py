"""Memberships after the rules have changed, in the transaction of the event that says so (R16).

In general everybody is judged by what the rules say anew. Where all that happened is that one
definition took effect for which answers were made before (`candidates.py`), only those are visited
whom it changes anything for: the rows, sets and journal are the same either way. Either goes slice
by slice within the transaction, however many customers there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pyroaring import BitMap

from domain.ids import RecordId
from projections.rows import Row
from projections.segments.active import EVERYONE, ActiveSet, Indexes, Standing
from projections.segments.bitmaps import customer_numbered, number_of
from projections.segments.candidates import Answers
from projections.segments.evaluation import Answer
from projections.segments.membership import Ledger, Moment
from projections.segments.slices import everybody, in_slices


@dataclass(frozen=True, slots=True)
class Change:
    """What stood before, who answers by other rules since, and which segments are no more."""

    before: ActiveSet
    direct: Indexes
    gone: list[str]


class _Prepared(NamedTuple):
    """The one definition that took effect, and the answers that were made for it."""

    standing: Standing
    answers: Answers


def change_over(ledger: Ledger, change: Change, moment: Moment) -> None:
    """Judge whom a change of the rules may concern; `ledger.active` is the set since."""
    prepared = _prepared(ledger, change)
    if prepared is None:
        _judge_everybody(ledger, change, moment)
    else:
        _swap(ledger, prepared, ledger.active.closure(change.direct), moment)
    for name in change.gone:
        ledger.bitmaps.clear(name)


def _judge_everybody(ledger: Ledger, change: Change, moment: Moment) -> None:
    changed = ledger.active.closure(change.direct)
    ledger.make_room()  # of the events before, while their keys are at hand
    for rows in everybody(ledger.tables):
        for root, row in rows:
            before = _copy(row)
            for name in change.gone:
                ledger.forget(root, row, name, moment=moment)
            ledger.evaluate(root, row, changed, moment=moment)
            if row != before:
                ledger.keep(root, row)
        ledger.make_room()


def _prepared(ledger: Ledger, change: Change) -> _Prepared | None:
    if change.gone or len(change.direct) != 1:
        return None
    standing = ledger.active.order[next(iter(change.direct))]
    place = change.before.places.get(standing.name)
    if place is not None and _has_instants(change.before.order[place]):
        return None  # rows may hold instants of the definition before, whoever belongs
    answers = ledger.candidates.answers(standing, ledger.active.rules)
    return None if answers is None else _Prepared(standing, answers)


def _has_instants(standing: Standing) -> bool:
    return bool(standing.expression.signals or standing.expression.purposes)


def _swap(ledger: Ledger, prepared: _Prepared, changed: Indexes, moment: Moment) -> None:
    """Visit those whose row changes, and those for whom no answer is held any more."""
    standing, answers = prepared
    everyone = ledger.bitmaps.members(EVERYONE)
    differing = answers.belonging ^ ledger.bitmaps.members(standing.name)
    numbers = everyone & (differing | answers.timed | (everyone - answers.known))
    others = changed - {ledger.active.places[standing.name]}
    ledger.make_room()

    def members(visit: _Visit) -> list[str]:
        records: list[str] = visit.row["members"]
        return records if others or visit.answer is None else []

    visits = _visits(ledger, numbers, answers, now=moment.at)
    for part in in_slices(ledger.tables, visits, members):
        for root, row, answer in part:
            before = _copy(row)
            if answer is None:
                ledger.evaluate(root, row, changed, moment=moment)
            else:
                ledger.take(root, row, standing, answer=answer, moment=moment)
                ledger.evaluate(root, row, others, moment=moment)
            if row != before:
                ledger.keep(root, row)
        ledger.make_room()


class _Visit(NamedTuple):
    root: RecordId
    row: Row
    answer: Answer | None


def _visits(ledger: Ledger, numbers: BitMap, answers: Answers, *, now: int) -> Iterator[_Visit]:
    """Yield the rows of customers, in order of their ids: the journal is in this order."""
    roots = (customer_numbered(ledger.tables, number) for number in numbers)
    for root in sorted(root for root in roots if root is not None):
        number, row = number_of(ledger.tables, root), ledger.row(root)
        if number is not None and row is not None:
            yield _Visit(root, row, answers.answer(number, now=now))


def _copy(row: Row) -> Row:
    return {**row, "in": dict(row["in"]), "due": dict(row["due"])}
