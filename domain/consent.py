"""What acts of consent leave open, by the rule R9: order-free, and closed whenever in doubt.

A closing act shuts a purpose and all below it until a grant on the purpose itself that is later by
event time and by revision, and that stands on every record of the customer on which the closing act
stands. The last part is what makes a merge unable to bring a grant back: an act stands on each
record that was a member when it was made, so a grant made elsewhere before two records were joined
is missing on the one that closed. Which act may follow which is in `transitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.ids import EventId, RecordId


class LawfulBasis(StrEnum):
    """Why a purpose is lawful."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    LEGITIMATE_INTEREST = "legitimate_interest"


class ConsentState(StrEnum):
    """State of a purpose for a person, by ISO/IEC TS 27560."""

    UNKNOWN = "unknown"
    REQUESTED = "requested"
    GIVEN = "given"
    RENEWED = "renewed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    EXPIRED = "expired"
    TERMINATED = "terminated"
    INVALIDATED = "invalidated"


GRANTS = frozenset({ConsentState.GIVEN, ConsentState.RENEWED})
CLOSING = frozenset(
    {
        ConsentState.REFUSED,
        ConsentState.WITHDRAWN,
        ConsentState.REVOKED,
        ConsentState.INVALIDATED,
    }
)
RESTRICTING_BY_IMPORT = CLOSING | {ConsentState.EXPIRED, ConsentState.TERMINATED}
"""What closes when it came by import: another system's word that something ended is a no."""

OF_THE_PERSON = GRANTS | {ConsentState.REFUSED, ConsentState.WITHDRAWN, ConsentState.REVOKED}
"""Acts by the person, or in their place: where one exists, no imported grant counts."""

SHOWN_WHEN_CLOSED = (
    ConsentState.REVOKED,
    ConsentState.WITHDRAWN,
    ConsentState.INVALIDATED,
    ConsentState.REFUSED,
    ConsentState.TERMINATED,
    ConsentState.EXPIRED,
    ConsentState.REQUESTED,
)
"""Which act a closed purpose shows, the strongest first; with none of them it is unknown."""


@dataclass(frozen=True, slots=True)
class ConsentAct:
    """An act on a purpose, as one record's stream holds it.

    `source` is set where a source passed the choice on, without an act of its own to show for it.
    """

    act_id: str
    purpose: str
    state: ConsentState
    effective_at: datetime
    revision: int
    event_id: EventId
    notice_version: str | None
    valid_until: datetime | None = None
    is_imported: bool = False
    source: str | None = None

    @property
    def is_grant(self) -> bool:
        """Whether it opens, as far as it counts."""
        return self.state in GRANTS

    @property
    def is_closing(self) -> bool:
        """Whether it closes."""
        return self.state in (RESTRICTING_BY_IMPORT if self.is_imported else CLOSING)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a purpose stands: open or not, what to show, and the act that decided.

    `valid_until` is when an open purpose closes by itself, if it does.
    """

    is_open: bool
    state: ConsentState
    act: ConsentAct | None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _PlacedAct:
    act: ConsentAct
    records: frozenset[RecordId]


@dataclass(frozen=True, slots=True)
class _Case:
    """What bears on one purpose: acts that close it, grants that count, and what says nothing."""

    closing: list[_PlacedAct]
    grants: list[_PlacedAct]
    silent: list[_PlacedAct]

    def prevails(self, grant: _PlacedAct) -> bool:
        """Whether a grant is later than everything that closes."""
        return all(_beats(grant, closing) for closing in self.closing)


def standing(
    purpose: str,
    basis: LawfulBasis,
    acts_by_record: Mapping[RecordId, Iterable[ConsentAct]],
    *,
    at: datetime,
    ancestors: Sequence[str] = (),
) -> Standing:
    """Judge one purpose for the customer that these records form, as of a time."""
    placed = _place({purpose, *ancestors}, acts_by_record)
    if not placed:
        return NOTHING_SAID[basis]
    case = _case(placed, purpose)
    valid = [grant for grant in case.grants if _is_valid(grant.act, at)]
    if basis in (LawfulBasis.CONTRACT, LawfulBasis.LEGAL_OBLIGATION):
        latest = _latest([*case.closing, *valid])
        return Standing(True, latest.state if latest else ConsentState.UNKNOWN, None)
    opening = [grant for grant in valid if case.prevails(grant)]
    latest_grant = _latest(opening)
    if basis is LawfulBasis.LEGITIMATE_INTEREST and not case.closing:
        state = latest_grant.state if latest_grant else ConsentState.UNKNOWN
        return Standing(True, state, latest_grant)
    if latest_grant is None:
        return _closed(case, at)
    return Standing(True, latest_grant.state, latest_grant, _end_of(opening))


NOTHING_SAID = {
    basis: Standing(basis is not LawfulBasis.CONSENT, ConsentState.UNKNOWN, None)
    for basis in LawfulBasis
}
"""Where purposes stand for somebody without acts."""


def _case(placed: list[_PlacedAct], purpose: str) -> _Case:
    own = [item for item in placed if item.act.purpose == purpose]
    has_acted = any(not i.act.is_imported and i.act.state in OF_THE_PERSON for i in own)
    return _Case(
        closing=[item for item in placed if item.act.is_closing],
        grants=[i for i in own if i.act.is_grant and not (i.act.is_imported and has_acted)],
        silent=[i for i in own if not i.act.is_grant and not i.act.is_closing],
    )


def _closed(case: _Case, at: datetime) -> Standing:
    """Say why: what no grant beat, what ran out, or what says nothing, by the order of R9."""
    shown = [(item.act.state, item.act) for item in _unanswered(case)]
    shown += [(item.act.state, item.act) for item in case.silent]
    lapsed = [item.act for item in case.grants if not _is_valid(item.act, at)]
    shown += [(ConsentState.EXPIRED, act) for act in lapsed]
    for state in SHOWN_WHEN_CLOSED:
        acts = [act for shown_state, act in shown if shown_state is state]
        if acts:
            return Standing(False, state, max(acts, key=_order))
    return Standing(False, ConsentState.UNKNOWN, None)


def _unanswered(case: _Case) -> list[_PlacedAct]:
    """Give the closing acts that no grant answered, not even one that has run out since."""
    if any(case.prevails(grant) for grant in case.grants):
        return []
    unbeaten = [c for c in case.closing if not any(_beats(g, c) for g in case.grants)]
    return unbeaten or case.closing


_Told = tuple[str, str, ConsentState, datetime]


def _place(
    purposes: set[str], acts_by_record: Mapping[RecordId, Iterable[ConsentAct]]
) -> list[_PlacedAct]:
    """Join the copies of each act, and say on which records it stands.

    An id alone does not make two acts one: a caller may give it twice, to people who join later.
    """
    first: dict[_Told, ConsentAct] = {}
    records: dict[_Told, set[RecordId]] = {}
    for record_id, acts in acts_by_record.items():
        for act in acts:
            if act.purpose not in purposes:
                continue
            key = (act.purpose, act.act_id, act.state, act.effective_at)
            known = first.get(key)
            if known is None or act.revision < known.revision:
                first[key] = act
            records.setdefault(key, set()).add(record_id)
    return [_PlacedAct(act, frozenset(records[key])) for key, act in first.items()]


def _beats(grant: _PlacedAct, closing: _PlacedAct) -> bool:
    if grant.act.effective_at <= closing.act.effective_at:
        return False
    if closing.act.is_imported:
        return True  # When another system's no came to us says nothing of when it was said.
    return grant.act.revision > closing.act.revision and grant.records >= closing.records


def _is_valid(grant: ConsentAct, at: datetime) -> bool:
    return grant.valid_until is None or at < grant.valid_until


def _end_of(grants: Iterable[_PlacedAct]) -> datetime | None:
    """Give when the last of these grants runs out; None where one does not."""
    ends = [grant.act.valid_until for grant in grants]
    return None if None in ends else max(end for end in ends if end)


def _order(act: ConsentAct) -> tuple[datetime, int]:
    return (act.effective_at, act.revision)


def _latest(placed: Iterable[_PlacedAct]) -> ConsentAct | None:
    return max((item.act for item in placed), key=_order, default=None)
