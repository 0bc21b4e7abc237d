"""What a person's acts leave open, by the rule R9: order-free, and closed whenever in doubt.

A closing act shuts a purpose until a grant that is later by event time and by revision, and that
stands on every record of the customer on which the closing act stands. The last part is what makes
a merge unable to bring a grant back: an act stands on each record that was a member when it was
made, so a grant made elsewhere before two records were joined is missing on the one that closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


GRANTS = frozenset({ConsentState.GIVEN})
CLOSING = frozenset({ConsentState.REFUSED, ConsentState.WITHDRAWN})
SHOWN_WHEN_CLOSED = (ConsentState.WITHDRAWN, ConsentState.REFUSED)
"""Which closing act a closed purpose shows, the strongest first."""


@dataclass(frozen=True, slots=True)
class ConsentAct:
    """An act of the person on a purpose, as one record's stream holds it."""

    act_id: str
    purpose: str
    state: ConsentState
    effective_at: datetime
    revision: int
    event_id: EventId
    notice_version: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a purpose stands: open or not, what to show, and the act that decided."""

    is_open: bool
    state: ConsentState
    act: ConsentAct | None


@dataclass(frozen=True, slots=True)
class _PlacedAct:
    act: ConsentAct
    records: frozenset[RecordId]


def standing(
    purpose: str,
    basis: LawfulBasis,
    acts_by_record: Mapping[RecordId, Iterable[ConsentAct]],
) -> Standing:
    """Judge one purpose for the customer that these records form."""
    placed = _place(purpose, acts_by_record)
    closing = [act for act in placed if act.act.state in CLOSING]
    grants = [act for act in placed if act.act.state in GRANTS]
    unbeaten = [c for c in closing if not any(_beats(g, c) for g in grants)]
    prevailing = [g for g in grants if all(_beats(g, c) for c in closing)]
    latest_grant = _latest(prevailing)
    match basis:
        case LawfulBasis.CONTRACT | LawfulBasis.LEGAL_OBLIGATION:
            return Standing(True, _shown(closing, grants), None)
        case LawfulBasis.LEGITIMATE_INTEREST:
            is_open = not closing or latest_grant is not None
        case LawfulBasis.CONSENT:
            is_open = latest_grant is not None
    if is_open:
        state = ConsentState.GIVEN if latest_grant else ConsentState.UNKNOWN
        return Standing(True, state, latest_grant)
    deciding = _strongest(unbeaten or closing)
    state = deciding.state if deciding else ConsentState.UNKNOWN
    return Standing(False, state, deciding)


def _place(
    purpose: str, acts_by_record: Mapping[RecordId, Iterable[ConsentAct]]
) -> list[_PlacedAct]:
    """Join the copies of each act, and say on which records it stands."""
    first: dict[str, ConsentAct] = {}
    records: dict[str, set[RecordId]] = {}
    for record_id, acts in acts_by_record.items():
        for act in acts:
            if act.purpose != purpose:
                continue
            known = first.get(act.act_id)
            if known is None or act.revision < known.revision:
                first[act.act_id] = act
            records.setdefault(act.act_id, set()).add(record_id)
    return [_PlacedAct(act, frozenset(records[act_id])) for act_id, act in first.items()]


def _beats(grant: _PlacedAct, closing: _PlacedAct) -> bool:
    return (
        grant.act.effective_at > closing.act.effective_at
        and grant.act.revision > closing.act.revision
        and grant.records >= closing.records
    )


def _latest(acts: Iterable[_PlacedAct]) -> ConsentAct | None:
    return max((a.act for a in acts), key=lambda a: (a.effective_at, a.revision), default=None)


def _strongest(closing: Iterable[_PlacedAct]) -> ConsentAct | None:
    acts = sorted((a.act for a in closing), key=lambda a: (a.effective_at, a.revision))
    for state in SHOWN_WHEN_CLOSED:
        for act in reversed(acts):
            if act.state is state:
                return act
    return None


def _shown(closing: list[_PlacedAct], grants: list[_PlacedAct]) -> ConsentState:
    latest = _latest([*closing, *grants])
    return latest.state if latest else ConsentState.UNKNOWN
