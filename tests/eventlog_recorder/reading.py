"""Reads a stream as it is stored, with nothing of the recorders in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID, uuid4

from eventsourcing.persistence import StoredEvent

from eventlog.jetstream_api import JetStreamApi, StoredMessage
from tests.eventlog_recorder.servers import Servers

T = TypeVar("T")

PATIENCE_SECONDS = 15.0


def on_nats(work: Callable[[JetStreamApi], Awaitable[T]], *, url: str = "") -> T:
    """Run something on a connection of its own."""

    async def connected() -> T:
        connection = await Servers.connect(url)
        try:
            return await work(JetStreamApi(connection))
        finally:
            await connection.close()

    return asyncio.run(connected())


def stored_messages(stream_name: str) -> list[StoredMessage]:
    """Read every message of a stream, one by one, from its leader."""

    async def read(api: JetStreamApi) -> list[StoredMessage]:
        state = (await api.call(f"STREAM.INFO.{stream_name}"))["state"]
        found = [
            await api.message(stream_name, {"seq": sequence})
            for sequence in range(1, state["last_seq"] + 1)
        ]
        return [message for message in found if message]

    return on_nats(read)


def event(
    originator_id: UUID | str | None = None, version: int = 1, *, state: bytes = b"{}"
) -> StoredEvent:
    """Make up a stored event."""
    return StoredEvent(
        originator_id=originator_id or uuid4(),
        originator_version=version,
        topic="shop.orders:Order.Placed",
        state=state,
    )


def events(originator_id: UUID | str, *versions: int) -> list[StoredEvent]:
    """Make up stored events of one originator."""
    return [event(originator_id, version) for version in versions]


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
