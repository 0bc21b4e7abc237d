"""Which act may follow which: the total table of transitions, and who may act. Data, no rules.

A closing act is never refused and never ignored, whatever stands: one that is dated later must
count even where the purpose is closed already. Imported acts pass without the table: they are what
another system says, in any order, and R9 judges them. `docs/consent.md` shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.consent import ConsentState


class ActedBy(StrEnum):
    """Who acted."""

    PERSON = "person"
    REPRESENTATIVE = "representative"
    CONTROLLER = "controller"
    AUTHORITY = "authority"


class Outcome(StrEnum):
    """What becomes of an act."""

    ALLOWED = "allowed"
    IGNORED = "ignored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Transition:
    """What becomes of one act in one state; `reason` is stable, and empty where it is allowed."""

    outcome: Outcome
    reason: str = ""


_OK: Final = Transition(Outcome.ALLOWED)
_ASKED: Final = Transition(Outcome.IGNORED, "ALREADY_GIVEN")
_ENDED: Final = Transition(Outcome.IGNORED, "ALREADY_ENDED")
_CLOSED: Final = Transition(Outcome.IGNORED, "ALREADY_CLOSED")
_NEVER: Final = Transition(Outcome.REFUSED, "CONSENT_NEVER_GIVEN")
_STANDS: Final = Transition(Outcome.REFUSED, "CONSENT_STANDS")
"""A grant that holds cannot be said to have run out: it is revoked, or its time is waited for."""

ACTS = tuple(state for state in ConsentState if state is not ConsentState.UNKNOWN)

_ROWS: Mapping[str, tuple[Transition, ...]] = {
    # requested, given, renewed, refused, withdrawn, revoked, expired, terminated, invalidated
    "unknown": (_OK, _OK, _NEVER, _OK, _OK, _OK, _NEVER, _NEVER, _OK),
    "requested": (_OK, _OK, _NEVER, _OK, _OK, _OK, _NEVER, _OK, _OK),
    "given": (_ASKED, _OK, _OK, _OK, _OK, _OK, _STANDS, _STANDS, _OK),
    "renewed": (_ASKED, _OK, _OK, _OK, _OK, _OK, _STANDS, _STANDS, _OK),
    "refused": (_OK, _OK, _OK, _OK, _OK, _OK, _CLOSED, _OK, _OK),
    "withdrawn": (_OK, _OK, _OK, _OK, _OK, _OK, _CLOSED, _OK, _OK),
    "revoked": (_OK, _OK, _OK, _OK, _OK, _OK, _CLOSED, _OK, _OK),
    "expired": (_OK, _OK, _OK, _OK, _OK, _OK, _OK, _OK, _OK),
    "terminated": (_OK, _OK, _OK, _OK, _OK, _OK, _ENDED, _ENDED, _OK),
    "invalidated": (_OK, _OK, _OK, _OK, _OK, _OK, _CLOSED, _OK, _OK),
}

TRANSITIONS: Mapping[tuple[ConsentState, ConsentState], Transition] = {
    (ConsentState(shown), act): transition
    for shown, row in _ROWS.items()
    for act, transition in zip(ACTS, row, strict=True)
}
"""By the state that the purpose shows and the act that is to follow."""

MAY_ACT: Mapping[ConsentState, tuple[ActedBy, ...]] = {
    ConsentState.REQUESTED: (ActedBy.CONTROLLER,),
    ConsentState.GIVEN: (ActedBy.PERSON, ActedBy.REPRESENTATIVE),
    ConsentState.RENEWED: (ActedBy.PERSON, ActedBy.REPRESENTATIVE),
    ConsentState.REFUSED: (ActedBy.PERSON, ActedBy.REPRESENTATIVE),
    ConsentState.WITHDRAWN: (ActedBy.PERSON, ActedBy.REPRESENTATIVE),
    ConsentState.REVOKED: (ActedBy.CONTROLLER, ActedBy.REPRESENTATIVE, ActedBy.AUTHORITY),
    ConsentState.EXPIRED: (ActedBy.CONTROLLER,),
    ConsentState.TERMINATED: (ActedBy.CONTROLLER,),
    ConsentState.INVALIDATED: (ActedBy.CONTROLLER, ActedBy.AUTHORITY),
}
"""Who may bring a state about; the first is meant where nobody is named."""
