"""The raw limits of the log: the same operations straight on nats-py, with nothing of ours.

Bodies are opaque bytes of an event's size. Every answer is checked, so that no limit is made of
messages that were refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import count

import nats.js
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

TIMEOUT_SECONDS = 10.0
EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class RawStream:
    """A stream with the log's settings, and what can be done to it."""

    def __init__(self, client: Client, name: str, *, subjects: int, body: bytes) -> None:
        self.name = name
        self._client = client
        self._subjects = [f"{name}.{number}" for number in range(subjects)]
        self._body = body
        self._batches = count(1)
        self._next_subject = 0

    async def create(self) -> None:
        """Create the stream."""
        config = {
            "name": self.name,
            "subjects": [f"{self.name}.*"],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "allow_atomic": True,
            "allow_direct": True,
            "num_replicas": 1,
            "duplicate_window": 1_000_000_000,
        }
        subject = f"$JS.API.STREAM.CREATE.{self.name}"
        _checked(await self._request(subject, json.dumps(config).encode()))

    async def atomic_batches(self, batches: int, *, size: int) -> None:
        """Store atomic batches, one after another."""
        for _ in range(batches):
            batch_id = f"raw-{next(self._batches)}"
            for number in range(1, size):
                headers = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
                await self._client.publish(self._subject(), self._body, headers=headers)
            headers = {
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(size),
                "Nats-Batch-Commit": "1",
            }
            _checked(await self._request(self._subject(), self._body, headers))

    async def plain_publishes(self, messages: int, *, outstanding: int) -> None:
        """Store single messages, so many without an answer yet at any time."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        inbox = self._client.new_inbox()
        sent = answered = 0

        async def send() -> None:
            nonlocal sent
            sent += 1
            await self._client.publish(self._subject(), self._body, reply=inbox)

        async def take(answer: Msg) -> None:
            nonlocal answered
            _checked(answer.data)
            answered += 1
            if sent < messages:
                await send()
            elif answered == messages and not done.done():
                done.set_result(None)

        subscription = await self._client.subscribe(inbox, cb=take)
        for _ in range(min(outstanding, messages)):
            await send()
        await asyncio.wait_for(done, TIMEOUT_SECONDS)
        await subscription.unsubscribe()

    def new_subject(self) -> str:
        """Name a subject of the stream that nothing else here uses."""
        return f"{self.name}.apart-{next(self._batches)}"

    async def expecting_publish(self, subject: str, last: int) -> int:
        """Store one message where a subject ends at `last`; give where it ends now."""
        answer = await self._request(subject, self._body, {EXPECTED: str(last)})
        return int(str(_checked(answer)["seq"]))

    def _subject(self) -> str:
        self._next_subject = (self._next_subject + 1) % len(self._subjects)
        return self._subjects[self._next_subject]

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> bytes:
        answer = await self._client.request(subject, body, timeout=TIMEOUT_SECONDS, headers=headers)
        return answer.data


async def fetch_all(client: Client, stream_name: str, *, messages: int, size: int) -> None:
    """Fetch so many messages of any stream from its beginning, without decoding them."""
    context = nats.js.JetStreamContext(client)
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
    subscription = await context.pull_subscribe("", stream=stream_name, config=config)
    fetched = 0
    while fetched < messages:
        wanted = min(size, messages - fetched)
        fetched += len(await subscription.fetch(wanted, timeout=TIMEOUT_SECONDS))
    await subscription.unsubscribe()


async def last_message(client: Client, stream_name: str, subject: str) -> None:
    """Read the last message of a subject by one direct get."""
    query = json.dumps({"last_by_subj": subject}).encode()
    answer = await client.request(
        f"$JS.API.DIRECT.GET.{stream_name}", query, timeout=TIMEOUT_SECONDS
    )
    if not answer.data:
        raise RuntimeError("the subject holds nothing")


def _checked(answer: bytes) -> Mapping[str, object]:
    fields: Mapping[str, object] = json.loads(answer)
    if "error" in fields:
        raise RuntimeError(f"the server refused: {fields['error']}")
    return fields
