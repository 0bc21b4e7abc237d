"""What sources said and what people did: the events that pass the gate, or were declined at it."""

from __future__ import annotations

from datetime import datetime

from domain.event import Event, ShortText
from domain.identity import LeftOut
from domain.ids import Name, OpenMap
from domain.signals import MessageId, Signal


class TraitsSet(Event):
    """A source said what is so of the person, as of the event's time.

    With `expires_at` it is fast context: kept apart from the slow facts, and gone after that time.
    """

    PERSONAL = {"traits": {}, "message_id": None}

    source: Name
    traits: OpenMap
    message_id: MessageId | None = None
    expires_at: datetime | None = None
    left_out: tuple[LeftOut, ...] = ()


class SignalsRecorded(Event):
    """Signals of one source arrived for the person.

    With `context_ttl_seconds` the context of each is the person's too, for so long after it
    happened.
    """

    PERSONAL = {"signals": ()}

    source: Name
    signals: tuple[Signal, ...]
    context_ttl_seconds: int | None = None
    left_out: tuple[LeftOut, ...] = ()


class SignalsDeclined(Event):
    """Signals came and were not let in; their content is not kept, only which ones they were."""

    PERSONAL = {"message_ids": ()}
    OPEN = {"reason": "one of our stable codes"}

    source: Name
    reason: ShortText
    message_ids: tuple[MessageId, ...]
