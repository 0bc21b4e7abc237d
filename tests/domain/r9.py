"""R9 once more, slowly and straight from its wording, for comparison with `domain.consent`.

Knows nothing of how acts are kept: it takes who acted when, and when records were joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from domain.consent import LawfulBasis


@dataclass(frozen=True)
class Said:
    """An act of the person on one record: what, when it happened, and when we knew."""

    record: int
    state: str
    time: int
    revision: int


@dataclass(frozen=True)
class Joined:
    """An edge between two records, and the revision of its merge."""

    one: int
    other: int
    revision: int


def is_open(basis: LawfulBasis, acts: Sequence[Said], edges: Sequence[Joined]) -> bool:
    """Say whether a purpose is open, by R9."""
    if basis in (LawfulBasis.CONTRACT, LawfulBasis.LEGAL_OBLIGATION):
        return True
    grants = [act for act in acts if act.state == "given"]
    closing = [act for act in acts if act.state in ("refused", "withdrawn")]
    if basis is LawfulBasis.LEGITIMATE_INTEREST and not closing:
        return True
    return any(all(is_later(grant, act, edges) for act in closing) for grant in grants)


def is_later(grant: Said, closing: Said, edges: Sequence[Joined]) -> bool:
    """Say whether a grant is later than a closing act, by both clocks and past the join."""
    if not (grant.time > closing.time and grant.revision > closing.revision):
        return False
    before = [edge for edge in edges if edge.revision < closing.revision]
    if path(grant.record, closing.record, before) is not None:
        return True  # They were one customer already when the closing act was made.
    between = path(grant.record, closing.record, edges)
    if between is None:
        return False  # They are not joined: no revision is later than an edge still to come.
    return grant.revision > max(edge.revision for edge in between)


def path(start: int, end: int, edges: Iterable[Joined]) -> list[Joined] | None:
    """Find the edges between two records of a forest."""
    if start == end:
        return []
    edges = list(edges)
    for edge in edges:
        if start in (edge.one, edge.other):
            onward = edge.other if start == edge.one else edge.one
            rest = path(onward, end, [e for e in edges if e != edge])
            if rest is not None:
                return [edge, *rest]
    return None


def members(record: int, edges: Iterable[Joined], *, at_revision: int) -> set[int]:
    """Name the records that were one customer with a record at a revision."""
    known = [edge for edge in edges if edge.revision < at_revision]
    named = {record} | {r for edge in known for r in (edge.one, edge.other)}
    return {other for other in named if path(record, other, known) is not None}
