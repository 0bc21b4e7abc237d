"""Why a customer belongs to a segment or does not, since which event, and until when; and previews.

Also what a definition is checked by before it becomes a command, and which definitions wait for
their activation: the steward appends it (`ready_for_activation`), the projector never writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from domain.ids import RecordId
from projections import clock, customers
from projections.instants import microseconds
from projections.rules import read_rules
from projections.segments.active import purpose_set
from projections.segments.candidates import is_filled, waiting_candidates
from projections.segments.definitions import read_segment, read_segments, sure_until
from projections.segments.effective import active_set, sight_of
from projections.segments.errors import ExpressionFault, InvalidExpression, UnknownSegment
from projections.segments.evaluation import Reading, evaluator
from projections.segments.facts import Facts
from projections.segments.journal import MembershipChange, changes
from projections.segments.language import Expression, check_types, read_expression
from projections.segments.membership import read_membership
from projections.segments.slices import everybody
from projections.segments.tokens import place, tokens
from projections.tables import ReadTables


@dataclass(frozen=True, slots=True)
class Explanation:
    """A membership: since which revision and instant, until when it is sure, and what was read.

    `since` of somebody who is out is their last exit, if the journal still holds it. Instants are
    microseconds since the year 1. `readings` are of now; `traits` those that the segment reads.
    """

    segment: str
    customer: RecordId
    is_in: bool
    since_revision: int | None
    since_at: int | None
    sure_until: int | None
    readings: tuple[Reading, ...]
    traits: dict[str, object]


def check_definition(
    tables: ReadTables, expression: str, *, purposes: Iterable[str], exception: str | None = None
) -> Expression:
    """Check an expression against the workspace as well; raises `InvalidExpression`."""
    read = read_expression(expression)
    check_types(expression)
    rules, segments = read_rules(tables), read_segments(tables)
    unknown = [("UNKNOWN_PURPOSE", name) for name in sorted(read.purposes - rules.purposes.keys())]
    unknown += [
        ("UNKNOWN_NAMESPACE", name)
        for name in sorted(read.namespaces)
        if rules.identity.namespace(name) is None
    ]
    faults = [_fault(expression, reason, name, "is not known here") for reason, name in unknown]
    served = set(purposes) if exception is None else set[str]()
    for name in sorted(read.uses):
        used = segments[name].active if name in segments else None
        if used is None:
            faults.append(_fault(expression, "UNKNOWN_SEGMENT", name, "is not known here"))
        elif used.exception is None and not served <= set(used.purposes):
            wanting = " and ".join(sorted(served - set(used.purposes)))
            message = f"does not serve {wanting}"
            faults.append(_fault(expression, "PURPOSE_NOT_SERVED", name, message))
    if faults:
        raise InvalidExpression(tuple(faults))
    return read


def preview_counts(
    tables: ReadTables, expression: str, *, purposes: Iterable[str], exception: str | None = None
) -> dict[str, int]:
    """Count, by purpose, who would belong now and has it open (R12), by looking at every customer.

    Raises `InvalidExpression`.
    """
    counts = dict.fromkeys(purposes, 0)
    read = check_definition(tables, expression, purposes=counts, exception=exception)
    rules = read_rules(tables)
    sight, now = sight_of(rules, counts, exception), _now(tables)
    for _, row in chain.from_iterable(everybody(tables)):
        facts = Facts(tables, tuple(row["members"]), rules, are_keys_held=True)
        answer = evaluator().answer(read, facts, sight=sight, now=now, belongs=row["in"])
        if answer.is_in:
            for purpose in counts:
                counts[purpose] += purpose_set(purpose) in row["in"]
    return counts


def explain_membership(
    tables: ReadTables, segment: str, record_id: RecordId, *, purpose: str | None = None
) -> Explanation | None:
    """Explain a membership of the customer of a record; None for nobody, or one that is parked.

    It is as sure as the `purpose`, if one asks, is open.
    """
    active = active_set(tables)
    if segment not in active.places:
        raise UnknownSegment("no active segment has this name")
    root = customers.root(tables, record_id)
    row = read_membership(tables, root) if root else None
    if root is None or row is None:
        return None
    standing = active.order[active.places[segment]]
    facts = Facts(tables, tuple(row["members"]), active.rules)
    asked = [] if purpose is None else [purpose_set(purpose)]
    until = partial(sure_until, due=row["due"], read=partial(read_segment, tables))
    readings = evaluator().explain(
        standing.expression, facts, sight=standing.sight, now=_now(tables), belongs=row["in"]
    )
    for number, reading in enumerate(readings):
        if reading.call.function == "segment":
            readings[number] = replace(reading, due=until(reading.call.arguments))
    since = row["in"].get(segment) or _last_exit(tables, segment, root)
    return Explanation(
        segment=segment,
        customer=root,
        is_in=segment in row["in"],
        since_revision=since[0] if since else None,
        since_at=since[1] if since else None,
        sure_until=until([segment, *asked]),
        readings=tuple(readings),
        traits=dict(facts.traits(standing.expression.traits, standing.sight)),
    )


def ready_for_activation(tables: ReadTables) -> list[tuple[str, int]]:
    """Name the definitions whose back-fill has caught up, by name: segment and number."""
    return [
        (name, candidate.number)
        for name, candidate in waiting_candidates(tables).items()
        if is_filled(tables, candidate)
    ]


def _last_exit(tables: ReadTables, segment: str, root: RecordId) -> tuple[int, int] | None:
    last: MembershipChange | None = None
    for change in changes(tables):
        if (change.segment, change.customer, change.change) == (segment, root, "exited"):
            last = change
    return (last.revision, last.at) if last else None


def _now(tables: ReadTables) -> int:
    return microseconds(clock.read_clock(tables))


def _fault(source: str, reason: str, name: str, message: str) -> ExpressionFault:
    """Make a fault at the first text of an expression that is this name."""
    found = (word.offset for word in tokens(source) if word.kind == "text" and name in word.text)
    offset = next(found, 0)
    return ExpressionFault(reason, f"{name} {message}", offset, *place(source, offset))
