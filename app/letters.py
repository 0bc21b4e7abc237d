"""What `koseki dead-letters` shows: messages that intake could not use, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.intake.dead_letters import LIST_MAX, JetStreamDeadLetters, send_again
from actors.intake.port import DeadLetter
from app.bootstrap import open_connection
from app.dead_letters import open_dead_letters
from app.settings import Settings
from app.status import running_settings
from eventlog.connection import Connection


async def list_letters(
    settings: Settings, *, after: int, limit: int, reason: str | None
) -> list[dict[str, Any]]:
    """List dead letters, without their content. Raises `NotRunning` or `LogError`."""
    settings = running_settings(settings)
    connection = await open_connection(settings, "dead-letters", role="worker")
    try:
        letters = await open_dead_letters(connection, settings)
        found = await letters.list(after_sequence=after, limit=limit, reason=reason)
        return [_summary(letter) for letter in found]
    finally:
        await connection.close()


async def show_letter(settings: Settings, number: int) -> dict[str, Any] | None:
    """Give one dead letter with its content; None if there is none. Raises as `list_letters`."""
    settings = running_settings(settings)
    connection = await open_connection(settings, "dead-letters", role="worker")
    try:
        letters = await open_dead_letters(connection, settings)
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


async def replay_letters(
    settings: Settings, numbers: Sequence[int], *, reason: str | None
) -> dict[str, Any]:
    """Send letters to intake again as they came, each once: all, of a reason, or those named.

    What was cut is not sent. Interrupted, it may be called again: a letter that was sent and not
    yet marked goes twice, and its signals count once (R8). Raises as `list_letters`.
    """
    settings = running_settings(settings)
    connection = await open_connection(settings, "dead-letters", role="worker")
    intake = await open_connection(settings, "dead-letters-replay", role="gateway")
    done: dict[str, list[int]] = {
        "replayed": [],
        "replayed_before": [],
        "truncated": [],
        "unknown": [],
    }
    try:
        letters = await open_dead_letters(connection, settings)
        after = 0
        while found := await _wanted(letters, numbers, after=after, reason=reason, done=done):
            for letter in found:
                done[await _send_once(letters, intake, letter)].append(letter.sequence)
            if numbers:
                break
            after = found[-1].sequence
        return done
    finally:
        await intake.close()
        await connection.close()


async def _wanted(
    letters: JetStreamDeadLetters,
    numbers: Sequence[int],
    *,
    after: int,
    reason: str | None,
    done: dict[str, list[int]],
) -> list[DeadLetter]:
    if not numbers:
        return await letters.list(after_sequence=after, limit=LIST_MAX, reason=reason)
    found = {number: await letters.get(number) for number in dict.fromkeys(numbers)}
    done["unknown"] += [number for number, letter in found.items() if letter is None]
    return [x for x in found.values() if x is not None and reason in (None, x.reason)]


async def _send_once(letters: JetStreamDeadLetters, intake: Connection, letter: DeadLetter) -> str:
    if letter.is_truncated:
        return "truncated"
    if await letters.is_replayed(letter.sequence):
        return "replayed_before"
    await send_again(intake, letter)
    await letters.mark_replayed(letter)
    return "replayed"


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.sequence,
        "reason": letter.reason,
        "subject": letter.subject,
        "received_at": letter.received_at.isoformat(),
        "bytes": letter.data_bytes,
    }
