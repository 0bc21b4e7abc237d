"""Checks: whether a purpose is open for a person, answered or recorded as a proof."""

from __future__ import annotations

from datetime import datetime

from domain.commands import CheckConsent
from domain.consent import ConsentState, Standing
from domain.consent_acts import verdict_of
from domain.consent_events import VerdictRecorded
from domain.decision import Change, Decision
from domain.errors import NotFound
from domain.gate import Gate, gate_of
from domain.identity import LeftOutReason
from domain.ids import record_stream
from domain.replies import Verdict
from domain.resolution import Resolution, held_by_erased
from domain.rules import Purpose, Rules


def check_consent(gate: Gate, resolution: Resolution, command: CheckConsent) -> Decision:
    """Judge a purpose; where the verdict is to be a proof, record it on the customer.

    Of several who are named all must allow it, also those who would not be joined: only what was
    dropped is passed over.
    Who is not known, and came with what somebody erased held, is taken for that person.
    """
    dropped = resolution.dropped
    is_erased = any(item.reason is LeftOutReason.ERASED for item in dropped)
    if is_erased and not resolution.is_known:
        raise held_by_erased()
    judged = _judged(gate, resolution, gate.rules.purpose(command.purpose))
    verdict = verdict_of(
        command.purpose, judged, rules_version=gate.rules.version, decided_at=gate.at
    )
    customer_id = resolution.root if resolution.is_known else None
    if not command.record:
        return Decision(customer_id, verdict=verdict, left_out=dropped)
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "a verdict on somebody unknown cannot be recorded")
    body = VerdictRecorded(
        purpose=command.purpose,
        is_open=verdict.is_open,
        shown_state=verdict.state,
        act_event_id=verdict.act_event_id,
        notice_version=verdict.notice_version,
        rules_version=verdict.rules_version,
        valid_until=verdict.valid_until,
    )
    roots = [customer.root for customer in resolution.customers]
    changes = tuple(Change(record_stream(root), body, gate.at) for root in roots)
    return Decision(customer_id, changes, verdict=verdict, left_out=dropped)


def _judged(gate: Gate, resolution: Resolution, purpose: Purpose) -> Standing:
    joint = gate.standing(purpose)
    if not joint.is_open:
        return joint
    apart = (gate_of(gate.rules, c.records, at=gate.at) for c in resolution.apart)
    others = (part.standing(purpose) for part in (*gate.parts, *apart))
    return next((other for other in others if not other.is_open), joint)


def no_of_erased(rules: Rules, command: CheckConsent, *, now: datetime, reason: str) -> Decision:
    """Answer for somebody erased: nothing is open any more, on whatever basis (R14)."""
    verdict = Verdict(
        purpose=rules.purpose(command.purpose).name,
        is_open=False,
        state=ConsentState.UNKNOWN,
        reason=reason,
        rules_version=rules.version,
        decided_at=now,
    )
    return Decision(None, verdict=verdict)
