"""What deciding a command comes to: the changes to store together, and what to tell the caller."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from domain.event import Event
from domain.identity import LeftOut
from domain.ids import RecordId, Stream
from domain.replies import Consequences, SignalResult, Verdict


class Change(NamedTuple):
    """An event that is to be stored on a stream."""

    stream: Stream
    body: Event
    happened_at: datetime


class Decision(NamedTuple):
    """What a command comes to: changes to store together, and what to tell the caller.

    `repeated_revision` is set where the command was carried out before: there is nothing to store.
    """

    customer_id: RecordId | None
    changes: tuple[Change, ...] = ()
    created: bool = False
    merge_ids: tuple[str, ...] = ()
    signals: tuple[SignalResult, ...] = ()
    verdict: Verdict | None = None
    left_out: tuple[LeftOut, ...] = ()
    consequences: Consequences | None = None
    ignored: str | None = None
    repeated_revision: int | None = None
