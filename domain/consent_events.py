"""What people decided on purposes, and the verdicts that were recorded on it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from domain.consent import ConsentState
from domain.event import Event, ShortText
from domain.ids import Name, OpenMap, UuidText


class ConsentChanged(Event):
    """The person, or someone for them, acted on a purpose; stands on every record of that time."""

    PERSONAL = {"evidence": {}, "method": None}
    OPEN = {
        "notice_version": "the workspace's own text, the same for everybody it was shown to",
        "notice_language": "a language, needed to prove what was agreed to",
        "jurisdiction": "a place's law, needed to judge the act after erasure",
    }

    state: ClassVar[ConsentState]
    act_id: UuidText
    purpose: Name
    notice_version: ShortText | None = None
    notice_language: ShortText | None = None
    jurisdiction: ShortText | None = None
    method: ShortText | None = None
    evidence: OpenMap = Field(default_factory=dict)


class ConsentGiven(ConsentChanged):
    """The person agreed."""

    state = ConsentState.GIVEN


class ConsentRefused(ConsentChanged):
    """The person said no, or objected, when asked."""

    state = ConsentState.REFUSED


class ConsentWithdrawn(ConsentChanged):
    """The person took consent back, or objected later."""

    state = ConsentState.WITHDRAWN


class VerdictRecorded(Event):
    """A check of consent was answered, and the answer proved by standing in the log."""

    OPEN = {"notice_version": "the workspace's own text, the same for everybody it was shown to"}

    purpose: Name
    is_open: bool
    shown_state: ConsentState
    act_event_id: UuidText | None
    notice_version: ShortText | None
    rules_version: int


CONSENT_EVENTS: dict[ConsentState, type[ConsentChanged]] = {
    ConsentState.GIVEN: ConsentGiven,
    ConsentState.REFUSED: ConsentRefused,
    ConsentState.WITHDRAWN: ConsentWithdrawn,
}
"""The class of event for each state that a person's act can bring about."""
