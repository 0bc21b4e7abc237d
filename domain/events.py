"""Everything that can have happened, as frozen models, and `Recorded`: an event in its place.

Wire names are given in `eventlog/registry.py`. What is personal is declared once, in `PERSONAL`:
those fields are sealed under the record's key, and read as declared there once it is destroyed. A
text of free form that is not in it stands in `OPEN`, with the reason why; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.consent import ConsentState, LawfulBasis
from domain.identity import Edge, Identifier
from domain.ids import (
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    Name,
    OpenMap,
    Stream,
    UuidText,
)
from domain.signals import MessageId, Signal

ShortText = Annotated[str, StringConstraints(max_length=256)]


class Event(BaseModel):
    """A fact. Times, ids and who did it are in its envelope, not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    PERSONAL: ClassVar[Mapping[str, object]] = {}
    OPEN: ClassVar[Mapping[str, str]] = {}


class IdentifiersLinked(Event):
    """Identifiers became known for a record; the first event of a record is one of these."""

    PERSONAL = {"identifiers": ()}

    source: Name | None
    keys: tuple[IdentifierKey, ...]
    identifiers: tuple[Identifier, ...]


class TraitsSet(Event):
    """A source said what is so of the person, as of the event's time."""

    PERSONAL = {"traits": {}, "message_id": None}

    source: Name
    traits: OpenMap
    message_id: MessageId | None = None


class SignalsRecorded(Event):
    """Signals of one source arrived for the person."""

    PERSONAL = {"signals": ()}

    source: Name
    signals: tuple[Signal, ...]


class SignalsDeclined(Event):
    """Signals came and were not let in; their content is not kept, only which ones they were."""

    PERSONAL = {"message_ids": ()}
    OPEN = {"reason": "one of our stable codes"}

    source: Name
    reason: ShortText
    message_ids: tuple[MessageId, ...]


class CustomersMerged(Event):
    """Records became one customer; stands on every record of it, whole on the root."""

    root: UuidText
    edges: tuple[Edge, ...]
    evidence: tuple[IdentifierKey, ...]
    component: tuple[UuidText, ...] = ()
    live_edges: tuple[Edge, ...] = ()


class CustomerTouched(Event):
    """Something of consequence happened on another record of the customer; stands on the root."""

    record_id: UuidText


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


class IdentifierClaimed(Event):
    """A record holds the identifier from here on."""

    record_id: UuidText


class PurposeDefined(Event):
    """What data may be used for, and on which lawful basis."""

    OPEN = {"description": "the workspace's own words, about nobody"}

    purpose: Name
    basis: LawfulBasis
    description: ShortText = ""


class SourceRegistered(Event):
    """Who may send signals, for which purposes, and how far its word counts."""

    source: Name
    purposes: tuple[Name, ...]
    priority: int = 100


class ClockAdvanced(Event):
    """Time passed with nothing else happening."""

    to: datetime


RecordEvent = (
    IdentifiersLinked
    | TraitsSet
    | SignalsRecorded
    | SignalsDeclined
    | CustomersMerged
    | CustomerTouched
    | ConsentGiven
    | ConsentRefused
    | ConsentWithdrawn
    | VerdictRecorded
)
WorkspaceEvent = PurposeDefined | SourceRegistered

CONSENT_EVENTS: dict[ConsentState, type[ConsentChanged]] = {
    ConsentState.GIVEN: ConsentGiven,
    ConsentState.REFUSED: ConsentRefused,
    ConsentState.WITHDRAWN: ConsentWithdrawn,
}
"""The class of event for each state that a person's act can bring about."""

E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[E_co]):
    """An event in its place in the log.

    `revision` is the log's sequence number, `version` the gapless number on its stream (first 1);
    `part` of `parts` is its place in the decision that it belongs to. Of a record whose key was
    destroyed `is_erased` is true, and the body's personal fields are as `PERSONAL` says.
    """

    stream: Stream
    version: int
    revision: int
    event_id: EventId
    happened_at: datetime
    recorded_at: datetime
    command_id: CommandId
    decision_id: DecisionId
    part: int
    parts: int
    auth_id: str
    body: E_co
    is_erased: bool = False

    @property
    def effective_at(self) -> datetime:
        """When it happened; a time in the future counts as of when it was recorded."""
        return min(self.happened_at, self.recorded_at)
