"""R9 of `docs/rules.md` once more, slowly, for comparison with `domain.consent`.

Knows nothing of how acts are kept: it takes who acted when, and when records were joined. Of
records that were joined and parted again it takes who was one customer at which time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from domain.consent import LawfulBasis

STRENGTH = ("revoked", "withdrawn", "invalidated", "refused", "terminated", "expired", "requested")
FOR_EVER = 2**62


@dataclass(frozen=True)
class Said:
    """An act on one record: what, when it happened, and when we knew."""

    record: int
    state: str
    time: int
    revision: int
    imported: bool = False
    until: int = FOR_EVER
    purpose: str = "marketing"


@dataclass(frozen=True)
class Joined:
    """An edge between two records, the revision of its merge and that of its undo."""

    one: int
    other: int
    revision: int
    undone: int = FOR_EVER


def is_grant(act: Said, acts: Iterable[Said]) -> bool:
    """Say whether an act is a grant that counts: one by import only where nobody acted."""
    if act.state not in ("given", "renewed") or act.purpose != "marketing":
        return False
    own = [a for a in acts if a.purpose == "marketing" and not a.imported]
    has_acted = [
        a for a in own if a.state in ("given", "renewed", "refused", "withdrawn", "revoked")
    ]
    return not (act.imported and has_acted)


def is_closing(act: Said) -> bool:
    """Say whether an act closes."""
    if act.state in ("refused", "withdrawn", "revoked", "invalidated"):
        return True
    return act.imported and act.state in ("expired", "terminated")


def is_open(
    basis: LawfulBasis,
    acts: Sequence[Said],
    edges: Sequence[Joined],
    *,
    at: int = 0,
    customer: Iterable[int] | None = None,
) -> bool:
    """Say whether a purpose is open by R9, whose acts and those above it these are.

    With `customer`, judge those records alone: some may have been joined with others, and parted.
    """
    if basis in (LawfulBasis.CONTRACT, LawfulBasis.LEGAL_OBLIGATION):
        return True
    if customer is not None:
        acts = [a for a in acts if members(a.record, edges, at_revision=a.revision) & {*customer}]
    grants = [act for act in acts if is_grant(act, acts) and at < act.until]
    closing = [act for act in acts if is_closing(act)]
    if basis is LawfulBasis.LEGITIMATE_INTEREST and not closing:
        return True
    return any(all(is_later(grant, c, edges, customer) for c in closing) for grant in grants)


def is_later(
    grant: Said, closing: Said, edges: Sequence[Joined], customer: Iterable[int] | None = None
) -> bool:
    """Say whether a grant is later than a closing act, by both clocks and past the join."""
    if grant.time <= closing.time:
        return False
    if closing.imported:
        return True
    if grant.revision <= closing.revision:
        return False
    if customer is not None:
        bound = members(closing.record, edges, at_revision=closing.revision) & {*customer}
        return bound <= members(grant.record, edges, at_revision=grant.revision)
    before = [edge for edge in edges if edge.revision < closing.revision]
    if path(grant.record, closing.record, before) is not None:
        return True  # They were one customer already when the closing act was made.
    between = path(grant.record, closing.record, edges)
    if between is None:
        return False  # They are not joined: no revision is later than an edge still to come.
    return grant.revision > max(edge.revision for edge in between)


def shown_when_closed(acts: Sequence[Said], *, at: int) -> str:
    """Say what one record's closed purpose shows: of what no grant answered, the strongest."""
    grants = [act for act in acts if is_grant(act, acts)]
    closing = [act for act in acts if is_closing(act)]
    own = [act for act in acts if act.purpose == "marketing"]
    states = {a.state for a in own if a.state not in ("given", "renewed") and not is_closing(a)}
    states |= {"expired" for grant in grants if at >= grant.until}
    if not any(all(is_later(g, c, []) for c in closing) for g in grants):
        unbeaten = {c.state for c in closing if not any(is_later(g, c, []) for g in grants)}
        states |= unbeaten or {c.state for c in closing}
    return next((state for state in STRENGTH if state in states), "unknown")


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
    known = [edge for edge in edges if edge.revision < at_revision < edge.undone]
    named = {record} | {r for edge in known for r in (edge.one, edge.other)}
    return {other for other in named if path(record, other, known) is not None}
