"""Turn the changes of one decision into drafts: ids, times and who asked come from here alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.clock import Clock
from domain.commands import Command
from domain.decision import Change
from domain.ids import DecisionId, EventId
from eventlog.port import Draft


def drafts_of(
    changes: Sequence[Change], command: Command, *, clock: Clock, now: datetime
) -> list[Draft]:
    """Give a draft for each change, all naming one new decision."""
    decision_id = DecisionId(clock.new_id())
    return [
        Draft(
            stream=change.stream,
            event_id=EventId(clock.new_id()),
            body=change.body,
            happened_at=change.happened_at,
            recorded_at=now,
            command_id=command.command_id,
            correlation_id=command.correlation_id or command.command_id,
            decision_id=decision_id,
            part=part,
            parts=len(changes),
            auth_id=command.auth_id,
        )
        for part, change in enumerate(changes, start=1)
    ]
