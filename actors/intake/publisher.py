"""How a publisher sends signals over NATS: one CloudEvent a message, sent until it is stored.

Used by Koseki's own tools; any NATS client can do the same. A message whose acknowledgement was
lost is sent again with the same id: a signal delivered twice counts once (R8).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable

IN_FLIGHT_MAX = 256
ACKNOWLEDGED_WITHIN_SECONDS = 5.0
RETRY_AFTER_SECONDS = 0.1
BUSY = 503
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class PublishRefused(Exception):
    """The server refuses the message, and always will."""


@dataclass(slots=True)
class PublishCounters:
    """What was sent, and how often it had to be sent again."""

    acknowledged: int = 0
    sent_again: int = 0


class IntakePublisher:
    """Publish to `koseki.<workspace>.ingest.<source>`, or with a key to `….<source>.<key>`."""

    def __init__(self, connection: Connection, *, workspace: str, source: str) -> None:
        self._connection = connection
        self._subject = f"koseki.{workspace}.ingest.{source}"
        self._source = source
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self.counters = PublishCounters()

    async def publish(
        self, event_id: str, call: Mapping[str, Any], *, time: datetime, key: str = ""
    ) -> None:
        """Send one Segment-spec call as a CloudEvent; return when it is on disk.

        Calls with the same key are taken in their order. A key is one token of a subject.
        """
        if key and not KEY.fullmatch(key):
            raise ValueError("a key has letters, digits, - and _ only")
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/{self._source}",
            "type": f"com.segment.{call['type']}",
            "time": time.isoformat(),
            "data": call,
        }
        async with self._slots:
            subject = f"{self._subject}.{key}" if key else self._subject
            await self._send(subject, orjson.dumps(event))

    async def _send(self, subject: str, message: bytes) -> None:
        while True:
            try:
                answer = await self._connection.request(
                    subject, message, timeout_seconds=ACKNOWLEDGED_WITHIN_SECONDS
                )
            except LogUnavailable:
                self.counters.sent_again += 1
                await asyncio.sleep(RETRY_AFTER_SECONDS)
                continue
            refused = orjson.loads(answer.data).get("error")
            if refused is None:
                self.counters.acknowledged += 1
                return
            if refused.get("code") != BUSY:
                raise PublishRefused(f"the server refuses the message: {refused.get('err_code')}")
            self.counters.sent_again += 1
            await asyncio.sleep(RETRY_AFTER_SECONDS)
