"""The dead letters of an installation, and the keys of their days. Opened by whoever uses them."""

from __future__ import annotations

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.letter_seal import FAMILY
from app.settings import Settings
from eventlog.connection import Connection
from eventlog.keys.jetstream import JetStreamKeyStore


async def open_letter_keys(connection: Connection, settings: Settings) -> JetStreamKeyStore:
    """Open the keys that seal dead letters. Raises `LogError`."""
    keys = JetStreamKeyStore(
        connection, settings.workspace, source=settings.workspace_key_source, family=FAMILY
    )
    await keys.open(replicas=settings.replicas)
    return keys


async def open_dead_letters(connection: Connection, settings: Settings) -> JetStreamDeadLetters:
    """Reach the dead letters, with the keys that seal them. Raises `LogError`."""
    return JetStreamDeadLetters(
        connection,
        workspace=settings.workspace,
        keys=await open_letter_keys(connection, settings),
        kept_seconds=settings.dead_letters_kept_seconds,
        replicas=settings.replicas,
    )
