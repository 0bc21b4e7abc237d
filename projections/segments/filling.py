"""The back-fill of one slice of customers: definitions that wait, and indexes over traits.

Called by the projector between two batches of events. It changes local tables alone: no row, no
digest, and the checkpoint stays. See `candidates.py` and `trait_indexes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Protocol

from pyroaring import BitMap

from projections import clock
from projections.errors import StoreFailed
from projections.instants import microseconds
from projections.rows import Row, encode_row
from projections.segments.active import EVERYONE, Standing
from projections.segments.bitmaps import customer_numbered, read_bitmap
from projections.segments.candidates import SLICE_CUSTOMERS_MAX, Candidate, waiting_candidates
from projections.segments.definitions import heard_sources
from projections.segments.effective import active_set
from projections.segments.evaluation import Answer, evaluator
from projections.segments.facts import Facts
from projections.segments.membership import Ledger, read_membership
from projections.segments.slices import in_slices
from projections.tables import ReadTables, Transaction


class Rows(Protocol):
    """What can be written to."""

    def begin(self) -> Transaction:
        """Start the one transaction."""


def fill_slice(rows: Rows, *, customers_max: int = SLICE_CUSTOMERS_MAX) -> bool:
    """Evaluate and index what waits for some more customers; true where more are left."""
    transaction = rows.begin()
    try:
        left = _fill(transaction, customers_max)
        if left is None:
            transaction.abort()
            return False
        at = transaction.checkpoint
        transaction.commit(
            revision=at.revision, event_digest=at.event_digest, log_digest=at.log_digest
        )
    except BaseException:
        transaction.abort()
        raise
    return left > 0


def _fill(tables: Transaction, customers_max: int) -> int | None:
    """Fill, and count who is left; None where there was nothing to do."""
    ledger = Ledger(tables, active_set(tables))
    of_candidates = _fill_candidates(ledger, customers_max)
    of_indexes = _fill_indexes(ledger, customers_max)
    if of_candidates is None and of_indexes is None:
        return None
    return (of_candidates or 0) + (of_indexes or 0)


def _fill_candidates(ledger: Ledger, customers_max: int) -> int | None:
    waiting = waiting_candidates(ledger.tables)
    has_changed = ledger.candidates.follow(waiting)
    everyone = read_bitmap(ledger.tables, EVERYONE) if waiting else BitMap()
    left = done = 0
    for candidate in waiting.values():
        unknown = everyone - ledger.candidates.of(candidate).known
        chosen = list(islice(unknown, customers_max - done))
        _evaluate(ledger, candidate, chosen)
        done += len(chosen)
        left += len(unknown) - len(chosen)
    if not has_changed and not done:
        return None
    ledger.candidates.store()
    return left


def _fill_indexes(ledger: Ledger, customers_max: int) -> int | None:
    tables, indexes = ledger.tables, ledger.trait_indexes
    everyone = ledger.bitmaps.members(EVERYONE)
    has_changed = indexes.follow(
        ledger.active.rules, heard=heard_sources(tables), everyone=everyone
    )
    has_cleared = indexes.clear_outdated()
    chosen = indexes.pending(customers_max)
    for number, row in chain.from_iterable(_in_slices(ledger, chosen)):
        indexes.fill(number, ledger.facts(row["members"], are_keys_held=True))
    if not (has_changed or has_cleared or chosen):
        return None
    indexes.store()
    return has_cleared + len(indexes.pending(customers_max))


def _evaluate(ledger: Ledger, candidate: Candidate, numbers: list[int]) -> None:
    standing = candidate.standing
    answers = ledger.candidates.of(candidate)
    now = microseconds(clock.read_clock(ledger.tables))
    known: dict[bytes, Answer] = {}
    for number, row in chain.from_iterable(_in_slices(ledger, numbers)):
        facts = ledger.facts(row["members"], are_keys_held=True)
        told = _all_that_decides(standing, facts)
        answer = None if told is None else known.get(told)
        if answer is None:
            answer = evaluator().answer(
                standing.expression, facts, sight=standing.sight, now=now, belongs=row["in"]
            )
            if told is not None:
                known[told] = answer
        answers.keep(number, answer)


def _all_that_decides(standing: Standing, facts: Facts) -> bytes | None:
    """Give what an answer depends on, where that is a few traits: many customers have the same."""
    expression = standing.expression
    if expression.calls or expression.traits is None:
        return None
    return encode_row(facts.traits(expression.traits, standing.sight))


def _in_slices(ledger: Ledger, numbers: list[int]) -> Iterator[list[tuple[int, Row]]]:
    """Yield the rows of customers in slices, and put away each before the next."""
    found = ((number, _row(ledger.tables, number)) for number in numbers)
    for part in in_slices(ledger.tables, found, lambda item: item[1]["members"]):
        yield part
        ledger.make_room()


def _row(tables: ReadTables, number: int) -> Row:
    root = customer_numbered(tables, number)
    row = None if root is None else read_membership(tables, root)
    if row is None:
        raise StoreFailed("a member of the set of everybody has no row")
    return row
