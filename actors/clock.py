"""Where time and new ids come from. The domain gets both inside commands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import uuid_utils

from domain.ids import MILLISECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Give the time and new ids."""

    def now(self) -> datetime:
        """Give the time, in UTC."""

    def new_id(self) -> str:
        """Make a UUIDv7, as canonical text."""

    def recorded_now(self) -> datetime:
        """Give the time at which what is decided now is recorded (R15)."""

    def arrival(self, received_at: datetime) -> datetime:
        """Give the time that stands for when a message came, given what the queue noted."""


class HostClock(Clock, Protocol):
    """Learn, too, how far the log's clock has come."""

    def note(self, recorded_at: datetime) -> None:
        """Learn that something in the log was recorded then."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Give the time, in UTC."""
        return datetime.now(UTC)

    def new_id(self) -> str:
        """Make a UUIDv7, as canonical text."""
        return str(uuid_utils.uuid7())

    def recorded_now(self) -> datetime:
        """Give the time, in UTC: nothing is known of a log."""
        return self.now()

    def arrival(self, received_at: datetime) -> datetime:
        """Give what the queue noted."""
        return received_at

    def note(self, recorded_at: datetime) -> None:
        """Forget it at once: nothing is known of a log."""


def milliseconds_of(time: datetime) -> int:
    """Give a time as ids have it: in milliseconds since 1970."""
    return (time - _EPOCH) // MILLISECOND
