"""What an event is, and `Recorded`: an event in its place in the log.

The events themselves are in the `*_events.py` beside this file, by family; their wire names in
`eventlog/registry.py`. What is personal is declared once, in `PERSONAL`: those fields are sealed
under the record's key, and read as declared there once it is destroyed. A text of free form that is
not in it stands in `OPEN`, with the reason why; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Generic, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from domain.ids import CommandId, DecisionId, EventId, Stream

ShortText = Annotated[str, StringConstraints(max_length=256)]


class Event(BaseModel):
    """A fact. Times, ids and who did it are in its envelope, not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    PERSONAL: ClassVar[Mapping[str, object]] = {}
    OPEN: ClassVar[Mapping[str, str]] = {}

    def without_personal(self) -> Self:
        """Give the event as it reads once the key is destroyed."""
        return self.model_copy(update=dict(self.PERSONAL))


E_co = TypeVar("E_co", bound=Event, covariant=True)


class Recorded(NamedTuple, Generic[E_co]):
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
