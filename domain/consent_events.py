"""Acts of consent, and the verdicts that were recorded on them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from domain.consent import GRANTS, ConsentAct, ConsentState
from domain.event import Event, Recorded, ShortText
from domain.ids import Name, OpenMap, UuidText
from domain.transitions import ActedBy


class ConsentChanged(Event):
    """Somebody acted on a purpose; stands on every record that the customer had at that time.

    `source` passed the choice on, without an act of its own to show for it. Of one that is
    `is_day_precise` only the day is known, in UTC.
    """

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
    valid_until: datetime | None = None
    acted_by: ActedBy | None = None
    is_imported: bool = False
    is_day_precise: bool = False
    source: Name | None = None


class ConsentRequested(ConsentChanged):
    """The person was asked."""

    state = ConsentState.REQUESTED


class ConsentGiven(ConsentChanged):
    """The person agreed."""

    state = ConsentState.GIVEN


class ConsentRenewed(ConsentChanged):
    """The person agreed again."""

    state = ConsentState.RENEWED


class ConsentRefused(ConsentChanged):
    """The person said no, or objected, when asked."""

    state = ConsentState.REFUSED


class ConsentWithdrawn(ConsentChanged):
    """The person took consent back, or objected later."""

    state = ConsentState.WITHDRAWN


class ConsentRevoked(ConsentChanged):
    """Somebody else took the consent back."""

    state = ConsentState.REVOKED


class ConsentExpired(ConsentChanged):
    """The consent's time was over."""

    state = ConsentState.EXPIRED


class ConsentTerminated(ConsentChanged):
    """What the consent was for had ended."""

    state = ConsentState.TERMINATED


class ConsentInvalidated(ConsentChanged):
    """The consent was found to be void."""

    state = ConsentState.INVALIDATED


class VerdictRecorded(Event):
    """A check of consent was answered, and the answer proved by standing in the log."""

    OPEN = {"notice_version": "the workspace's own text, the same for everybody it was shown to"}

    purpose: Name
    is_open: bool
    shown_state: ConsentState
    act_event_id: UuidText | None
    notice_version: ShortText | None
    rules_version: int
    valid_until: datetime | None = None


CONSENT_EVENTS: dict[ConsentState, type[ConsentChanged]] = {
    event.state: event
    for event in (
        ConsentRequested,
        ConsentGiven,
        ConsentRenewed,
        ConsentRefused,
        ConsentWithdrawn,
        ConsentRevoked,
        ConsentExpired,
        ConsentTerminated,
        ConsentInvalidated,
    )
}
"""The class of event for each state that an act can bring about."""


def act_of(event: Recorded[Event], body: ConsentChanged) -> ConsentAct:
    """Give an act as R9 judges it."""
    return ConsentAct(
        act_id=body.act_id,
        purpose=body.purpose,
        state=body.state,
        effective_at=counted_from(event.happened_at, event.recorded_at, body=body),
        revision=event.revision,
        event_id=event.event_id,
        notice_version=body.notice_version,
        valid_until=body.valid_until,
        is_imported=body.is_imported,
        source=body.source,
    )


def counted_from(happened_at: datetime, recorded_at: datetime, *, body: ConsentChanged) -> datetime:
    """Say from when an act counts; a time in the future counts as of when it was recorded.

    Of a day, a grant counts from its beginning and all else from its end, so that a grant never
    beats what closed on the same day.
    """
    if not body.is_day_precise:
        return min(happened_at, recorded_at)
    begin = happened_at.replace(hour=0, minute=0, second=0, microsecond=0)
    if body.state in GRANTS:
        return min(begin, recorded_at)
    return min(begin + timedelta(days=1, microseconds=-1), recorded_at)
