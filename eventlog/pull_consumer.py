"""A pull consumer that hands out what a stream holds, in order, until it is lost.

`tail.py` opens one, and another when this one is lost: to a reconnect, a restart of the server, or
silence. It is ephemeral and acknowledges nothing; the reader alone knows how far it has read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import orjson

from eventlog.connection import Subscription
from eventlog.jetstream_api import JetStreamApi
from eventlog.nats_client import Received

PULL_SECONDS = 2.0
SILENCE_SECONDS_MAX = 4.0
"""The server ends an idle pull after `PULL_SECONDS`; one that it does not end is lost."""

INACTIVE_SECONDS = 30
PULL_BYTES_MAX = 33_554_432

_EXPIRED = "408"
_PULL_ENDED = frozenset({"Batch Completed", "Message Size Exceeds MaxBytes"})
_TOKENS_WITHOUT_DOMAIN = 9


class Delivery(NamedTuple):
    """A stored message with its revision, and how many more the consumer has after it."""

    revision: int
    pending: int
    message: Received


class PullConsumer:
    """Receive a stream's messages from a revision on; of some subjects only, if any are named."""

    def __init__(
        self, api: JetStreamApi, log_name: str, *, events_max: int, subjects: Sequence[str] = ()
    ) -> None:
        self._api = api
        self._log_name = log_name
        self._name = f"tail-{uuid4().hex}"
        self._events_max = events_max
        self._subjects = list(subjects)
        self._buffer: deque[Received] = deque()
        self._awaited = 0
        self._is_lost = False
        self._is_expired = False
        self.server = ""
        """The server that delivers, once the consumer is there; nothing where there is but one."""
        self._changed = asyncio.Event()
        self._inbox = api.connection.new_inbox()
        self._subscription: Subscription | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nothing more will come."""
        return self._is_lost

    async def create(self, first_revision: int) -> int:
        """Make the consumer on the server; give how many messages wait for it."""
        config: dict[str, str | int | bool | list[str]] = {
            "name": self._name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first_revision,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_SECONDS * 1_000_000_000,
        }
        if self._subjects:
            config["filter_subjects"] = self._subjects
        self._subscription = await self._api.connection.subscribe(
            self._inbox, self._take, on_lost=self._lose
        )
        created = await self._api.call(
            f"CONSUMER.CREATE.{self._log_name}.{self._name}",
            {"stream_name": self._log_name, "config": config},
        )
        self.server = (created.get("cluster") or {}).get("leader", "")
        return int(created.get("num_pending", 0))

    async def receive(self, *, for_ever: bool = True) -> list[Delivery]:
        """Wait for messages and give all that are here; none when the consumer is lost.

        Or, unless it is to wait for ever, when a whole pull has passed without any.
        """
        self._is_expired = False
        while not self._buffer and not self._is_lost and (for_ever or not self._is_expired):
            await self._pull()
            self._changed.clear()
            try:
                async with asyncio.timeout(SILENCE_SECONDS_MAX):
                    await self._changed.wait()
            except TimeoutError:
                self._is_lost = True
        size = min(len(self._buffer), self._events_max)
        messages = [self._buffer.popleft() for _ in range(size)]
        if messages and not self._is_lost:
            await self._pull()
        return [Delivery(*_place(message.reply), message) for message in messages]

    async def close(self) -> None:
        """Let go of the consumer; the server drops it after a while if this does not reach it."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        if self._api.connection.is_connected:
            await self._api.connection.publish(
                f"$JS.API.CONSUMER.DELETE.{self._log_name}.{self._name}"
            )

    async def _pull(self) -> None:
        """Ask for more once less than half of what may be on its way is.

        So at most twice `events_max` messages are here or on their way, however slow the reader.
        """
        if self._awaited + len(self._buffer) > self._events_max:
            return
        request = {
            "batch": self._events_max,
            "expires": int(PULL_SECONDS * 1_000_000_000),
            "max_bytes": PULL_BYTES_MAX,
        }
        self._awaited += self._events_max
        await self._api.connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._log_name}.{self._name}",
            orjson.dumps(request),
            reply=self._inbox,
        )

    def _take(self, message: Received) -> None:
        headers = message.headers or {}
        if message.data or "Status" not in headers:
            self._buffer.append(message)
            self._awaited -= 1
        elif headers["Status"] == _EXPIRED or headers.get("Description") in _PULL_ENDED:
            self._awaited -= int(headers.get("Nats-Pending-Messages", 0))
            self._is_expired = True
        else:
            self._is_lost = True
        self._changed.set()

    def _lose(self) -> None:
        self._is_lost = True
        self._changed.set()


def _place(reply: str) -> tuple[int, int]:
    """Read the sequence, and how many wait, in the subject that an acknowledgement would go to."""
    tokens = reply.split(".")
    if len(tokens) == _TOKENS_WITHOUT_DOMAIN:
        return int(tokens[5]), int(tokens[8])
    return int(tokens[7]), int(tokens[10])
