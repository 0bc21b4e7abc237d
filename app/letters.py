"""What `koseki dead-letters` shows: messages that intake could not use, and why."""

from __future__ import annotations

from typing import Any

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.port import DeadLetter
from app.bootstrap import open_connection
from app.settings import Settings
from app.status import running_settings


async def list_letters(
    settings: Settings, *, after: int, limit: int, reason: str | None
) -> list[dict[str, Any]]:
    """List dead letters, without their content. Raises `NotRunning` or `LogError`."""
    settings = running_settings(settings)
    connection = await open_connection(settings, "dead-letters", role="worker")
    try:
        letters = JetStreamDeadLetters(connection, workspace=settings.workspace)
        found = await letters.list(after_sequence=after, limit=limit, reason=reason)
        return [_summary(letter) for letter in found]
    finally:
        await connection.close()


async def show_letter(settings: Settings, number: int) -> dict[str, Any] | None:
    """Give one dead letter with its content; None if there is none. Raises as `list_letters`."""
    settings = running_settings(settings)
    connection = await open_connection(settings, "dead-letters", role="worker")
    try:
        letters = JetStreamDeadLetters(connection, workspace=settings.workspace)
        letter = await letters.get(number)
        if letter is None:
            return None
        return {
            **_summary(letter),
            "headers": dict(letter.headers),
            "is_truncated": letter.is_truncated,
            "data": letter.data.decode(errors="backslashreplace"),
        }
    finally:
        await connection.close()


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.sequence,
        "reason": letter.reason,
        "subject": letter.subject,
        "received_at": letter.received_at.isoformat(),
        "bytes": letter.data_bytes,
    }
