"""Acts of consent, and the verdicts that were recorded on them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class ChoiceMade(BaseModel):
    """One of the acts that choices came to; each has its own id and time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    act_id: UuidText
    purpose: Name
    state: Literal[ConsentState.GIVEN, ConsentState.REFUSED, ConsentState.WITHDRAWN]
    happened_at: datetime


class ChoicesRecorded(Event):
    """A source passed on what the person chose of several purposes, all at once.

    One event, however many purposes: on each of a customer's records, the acts of a decision fit
    one append. What it says of all of them is as in `ConsentChanged`.
    """

    PERSONAL = {"evidence": {}}
    OPEN = {
        "notice_language": "a language, needed to prove what was agreed to",
        "jurisdiction": "a place's law, needed to judge the acts after erasure",
    }

    source: Name
    acts: tuple[ChoiceMade, ...]
    is_day_precise: bool = False
    notice_language: ShortText | None = None
    jurisdiction: ShortText | None = None
    evidence: OpenMap = Field(default_factory=dict)


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


def told_in(event: Recorded[Event]) -> Iterator[tuple[ConsentChanged, datetime]]:
    """Give the acts that an event tells of, each by itself, with when it happened."""
    match event.body:
        case ConsentChanged() as body:
            yield body, event.happened_at
        case ChoicesRecorded() as body:
            for act in body.acts:
                yield (
                    CONSENT_EVENTS[act.state](
                        act_id=act.act_id,
                        purpose=act.purpose,
                        source=body.source,
                        is_day_precise=body.is_day_precise,
                        notice_language=body.notice_language,
                        jurisdiction=body.jurisdiction,
                        evidence=body.evidence,
                    ),
                    act.happened_at,
                )
        case _:
            return


def acts_of(event: Recorded[Event]) -> tuple[ConsentAct, ...]:
    """Give the acts that an event tells of as R9 judges them."""
    return tuple(_act(event, body, happened_at) for body, happened_at in told_in(event))


def _act(event: Recorded[Event], body: ConsentChanged, happened_at: datetime) -> ConsentAct:
    return ConsentAct(
        act_id=body.act_id,
        purpose=body.purpose,
        state=body.state,
        effective_at=counted_from(happened_at, event.recorded_at, body=body),
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
