"""How a person wishes to be spoken to, and the households that they live in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from domain.event import Event
from domain.ids import Name, UuidText

Topic = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]{0,64}$")]


class Preference(BaseModel):
    """How often one topic may come over one channel; the empty topic is all of the channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: Name
    topic: Topic = ""
    frequency: Name


class PreferencesSet(Event):
    """The person said how they wish to be spoken to; of a channel and topic the newest stands."""

    PERSONAL = {"preferences": ()}

    preferences: tuple[Preference, ...]


class HouseholdLinked(Event):
    """The person is of a household: a link that merges nobody."""

    household_id: UuidText
    source: Name


class HouseholdUnlinked(Event):
    """The person is no more of a household."""

    household_id: UuidText
