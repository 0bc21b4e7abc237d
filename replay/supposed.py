"""Events that nobody stored: what a decision would come to, as the log would give it back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from domain.decision import Change
from domain.event import Event, Recorded
from domain.ids import CommandId, DecisionId, EventId, derived_id


def supposed(
    changes: Sequence[Change], command_id: CommandId, *, after: int, at: datetime
) -> list[Recorded[Event]]:
    """Give the events as if they had been stored after a revision, at a time."""
    decision_id = DecisionId(derived_id(command_id, "decision"))
    return [
        Recorded(
            stream=change.stream,
            version=0,
            revision=after + part,
            event_id=EventId(derived_id(decision_id, f"event:{part}")),
            happened_at=change.happened_at,
            recorded_at=at,
            command_id=command_id,
            decision_id=decision_id,
            part=part,
            parts=len(changes),
            auth_id="",
            body=change.body,
        )
        for part, change in enumerate(changes, start=1)
    ]
