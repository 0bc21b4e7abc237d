"""Judge an act of consent before it becomes an event, and put a standing into words."""

from __future__ import annotations

from datetime import datetime

from domain.commands import RecordConsent
from domain.consent import CLOSING, GRANTS, ConsentState, Standing
from domain.consent_events import CONSENT_EVENTS, ConsentChanged, counted_from
from domain.errors import Invalid, NotFound, Refused
from domain.gate import Gate
from domain.replies import Verdict
from domain.rules import Purpose
from domain.transitions import MAY_ACT, TRANSITIONS, Outcome


def check_act(gate: Gate, purpose: Purpose, command: RecordConsent) -> str | None:
    """Check an act; give the reason where it changes nothing and is ignored. Raises `DomainError`.

    What closes is held up by nothing but who acted: a no counts also where its notice is unknown.
    """
    if command.state is ConsentState.UNKNOWN:
        raise Invalid("INVALID_CONSENT_STATE", "the state is not one that an act brings about")
    if command.acted_by is not None and command.acted_by not in MAY_ACT[command.state]:
        raise Invalid("INVALID_ACTOR", "whoever acted cannot bring this state about")
    if command.valid_until is not None:
        _check_validity(command, command.valid_until)
    if command.state not in CLOSING and not command.is_imported:
        _check_notice(purpose, command)
    if command.is_imported:
        return "ALREADY_IMPORTED" if _is_imported(gate, command) else None
    transition = TRANSITIONS[gate.standing(purpose).state, command.state]
    if transition.outcome is Outcome.REFUSED:
        raise Refused(transition.reason, "this act cannot follow where the purpose stands now")
    return transition.reason or None


def _is_imported(gate: Gate, command: RecordConsent) -> bool:
    """Whether an import has brought this very act before: to import twice changes nothing.

    It has not where one of those that are meant lacks it: they are not joined by what is ignored.
    """
    at = counted_from(command.happened_at, gate.at, body=body_of(command))
    said = (command.purpose, command.state, at)
    return all(
        any(
            act.is_imported and (act.purpose, act.state, act.effective_at) == said
            for acts in part.acts.values()
            for act in acts
        )
        for part in gate.each
    )


def _check_validity(command: RecordConsent, valid_until: datetime) -> None:
    if command.state not in GRANTS:
        raise Invalid("INVALID_VALIDITY", "only an agreement is valid until a time")
    if valid_until <= command.happened_at:
        raise Invalid("INVALID_VALIDITY", "an agreement is valid until after it was made")


def _check_notice(purpose: Purpose, command: RecordConsent) -> None:
    laws = purpose.jurisdictions
    if laws and command.jurisdiction is not None and command.jurisdiction not in laws:
        raise NotFound("UNKNOWN_JURISDICTION", "the purpose is not defined under this law")
    if not purpose.knows_notice(command.notice_version, command.notice_language):
        raise NotFound("UNKNOWN_NOTICE", "this version of the notice was never published")


def body_of(command: RecordConsent) -> ConsentChanged:
    """Give the event of an act that was checked."""
    return CONSENT_EVENTS[command.state](
        act_id=command.command_id,
        purpose=command.purpose,
        notice_version=command.notice_version,
        notice_language=command.notice_language,
        jurisdiction=command.jurisdiction,
        method=command.method,
        evidence=command.evidence,
        valid_until=command.valid_until,
        acted_by=command.acted_by,
        is_imported=command.is_imported,
        is_day_precise=command.is_day_precise,
    )


def verdict_of(
    purpose: str, judged: Standing, *, rules_version: int, decided_at: datetime
) -> Verdict:
    """Put a standing into words."""
    closed = "NOT_GIVEN" if judged.state is ConsentState.UNKNOWN else judged.state.upper()
    return Verdict(
        purpose=purpose,
        is_open=judged.is_open,
        state=judged.state,
        reason="OPEN" if judged.is_open else closed,
        act_event_id=judged.act.event_id if judged.act else None,
        notice_version=judged.act.notice_version if judged.act else None,
        rules_version=rules_version,
        decided_at=decided_at,
        valid_until=judged.valid_until,
    )
