"""Memberships after the rules have changed, in the transaction of the event that says so (R16).

In general everybody is judged by what the rules say anew. Where all that happened is that one
definition took effect for which answers were made before (`candidates.py`), only those are visited
whom it changes anything for: the rows, sets and journal are the same either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pyroaring import BitMap

from domain.ids import RecordId
from projections.rows import Row
from projections.segments.active import EVERYONE, ActiveSet, Indexes, Standing
from projections.segments.bitmaps import customer_numbered
from projections.segments.candidates import Answers
from projections.segments.membership import Ledger, Moment, each_customer, everybody


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
    ledger.tables.need(everybody(ledger.tables))

    def visit(root: RecordId, row: Row) -> None:
        before = _copy(row)
        for name in change.gone:
            ledger.forget(root, row, name, moment=moment)
        ledger.evaluate(root, row, changed, moment=moment)
        if row != before:
            ledger.keep(root, row)

    each_customer(ledger.tables, visit)


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
    rows = _rows(ledger, numbers)
    ledger.tables.need(RecordId(member) for _, _, row in rows for member in row["members"])
    place = ledger.active.places[standing.name]
    for root, number, row in rows:
        before = _copy(row)
        answer = answers.answer(number, now=moment.at)
        if answer is None:
            ledger.evaluate(root, row, changed, moment=moment)
        else:
            ledger.take(root, row, standing, answer=answer, moment=moment)
            ledger.evaluate(root, row, changed - {place}, moment=moment)
        if row != before:
            ledger.keep(root, row)


def _rows(ledger: Ledger, numbers: BitMap) -> list[tuple[RecordId, int, Row]]:
    """Read the rows of customers, in order of their ids: the journal is in this order."""
    found = []
    for number in numbers:
        root = customer_numbered(ledger.tables, number)
        row = None if root is None else ledger.row(root)
        if root is not None and row is not None:
            found.append((root, number, row))
    return sorted(found, key=lambda item: item[0])


def _copy(row: Row) -> Row:
    return {**row, "in": dict(row["in"]), "due": dict(row["due"])}
