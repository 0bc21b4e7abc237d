"""The intake queue on JetStream: one stream a workspace, one durable pull consumer for its workers.

Implements `IntakeQueue` with raw pull requests over `eventlog.connection`. What is delivered is
told from what the server says by its reply subject, never by headers: those are the publisher's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

import orjson

from actors.intake.api import NANOSECONDS, ApiRefused, call_api, ensure_stream
from actors.intake.port import NO_HEADERS, IntakeMessage, QueueStats
from eventlog.connection import Connection, Received, Subscription
from eventlog.erasing import erase
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi

INTAKE_BYTES_MAX = 16 * 1_073_741_824
"""A full intake refuses publishers, so that they keep what it cannot take: nothing is dropped."""
ACK_WAIT_SECONDS = 30.0
ACK_PENDING_MAX = 20_000
DUPLICATE_WINDOW_SECONDS = 30
PULL_BYTES_MAX = 16 * 1_048_576
"""What one pull asks for at most; many times the largest message."""
PULL_GRACE_SECONDS = 1.0
"""How long after its end a pull may still be answered."""
ERASED_AT_ONCE_MAX = 2_000
"""Messages that one trim overwrites; a server manages some 180 a second."""
ERASED_LATER_MAX = 20_000
"""Old messages that wait to be overwritten. Of more, the older ones are purged: where so many come,
the block that they lie in is full, and gone, before long."""
LEAVES_WITHIN_SECONDS = 1_800.0
"""How long after its time the bytes of a settled message may rest on the disk at most."""
TOPPED_UP_BELOW = 0.5
"""A pull that brought less than this part of a round gathers a little more."""

CONSUMER = "workers"
ACK_PREFIX = "$JS.ACK."
ACK_TOKENS_SHORT = 9
"""`$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<place>.<time>.<pending>`"""
ACK_TOKENS_DOMAIN = 2
"""With a domain, so many tokens more stand before the stream's name."""

NO_MESSAGES = frozenset({"404", "408"})
LOST = "lost"
"""How a pull ends whose connection was lost."""


class JetStreamIntake:
    """The intake of one workspace, as one worker process sees it."""

    def __init__(
        self,
        connection: Connection,
        *,
        workspace: str,
        ack_wait_seconds: float = ACK_WAIT_SECONDS,
        replicas: int = 1,
        bytes_max: int = INTAKE_BYTES_MAX,
    ) -> None:
        self._connection = connection
        self._stream = f"koseki-{workspace}-intake"
        self._subject = f"koseki.{workspace}.ingest.>"
        self._ack_wait_seconds = ack_wait_seconds
        self._replicas = replicas
        self._bytes_max = bytes_max
        self._inbox = connection.new_inbox()
        self._pulls = count(1)
        self._subscription: Subscription | None = None
        self._delivered: deque[IntakeMessage] = deque()
        self._ended: dict[str, str] = {}
        self._changed = asyncio.Event()

    @property
    def ack_wait_seconds(self) -> float:
        """How long a delivered message may stay unsettled before it is delivered again."""
        return self._ack_wait_seconds

    async def open(self) -> None:
        """Make stream and consumer if they are not there, and listen. Raises `LogUnavailable`."""
        await self.open_stream()
        await call_api(
            self._connection,
            f"CONSUMER.DURABLE.CREATE.{self._stream}.{CONSUMER}",
            {
                "stream_name": self._stream,
                "config": {
                    "durable_name": CONSUMER,
                    "ack_policy": "explicit",
                    "deliver_policy": "all",
                    "replay_policy": "instant",
                    "ack_wait": int(self._ack_wait_seconds * NANOSECONDS),
                    "max_ack_pending": ACK_PENDING_MAX,
                    "max_deliver": -1,
                },
            },
        )
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._receive)

    async def open_stream(self) -> None:
        """Make the stream if it is not there, so that publishers may begin."""
        await ensure_stream(
            self._connection,
            {
                "name": self._stream,
                "subjects": [self._subject],
                "storage": "file",
                "retention": "limits",
                "discard": "new",
                "max_bytes": self._bytes_max,
                "duplicate_window": DUPLICATE_WINDOW_SECONDS * NANOSECONDS,
                "num_replicas": self._replicas,
                "allow_direct": True,
            },
        )

    async def close(self) -> None:
        """Take no more, and give back what was delivered and not handed out."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        left = list(self._delivered)
        self._delivered.clear()
        await self.nak(left, delay_seconds=0)

    async def pull(
        self, *, batch_messages_max: int, wait_seconds: float, gather_seconds: float
    ) -> list[IntakeMessage]:
        """Wait for a first message, gather a little more, and give what has come; may be none."""
        if not self._delivered:
            await self._request(batch_messages_max, wait_seconds=0)
        if not self._delivered:
            await self._request(1, wait_seconds=wait_seconds)
        if self._delivered and len(self._delivered) < batch_messages_max * TOPPED_UP_BELOW:
            await asyncio.sleep(gather_seconds)
            await self._request(batch_messages_max - len(self._delivered), wait_seconds=0)
        size = min(batch_messages_max, len(self._delivered))
        return [self._delivered.popleft() for _ in range(size)]

    async def ack(self, messages: Sequence[IntakeMessage]) -> None:
        """Settle messages: they do not come again."""
        await self._answer(messages, b"+ACK")

    async def nak(self, messages: Sequence[IntakeMessage], *, delay_seconds: float) -> None:
        """Give messages back, to be delivered again after a delay."""
        delay = orjson.dumps({"delay": int(delay_seconds * NANOSECONDS)})
        await self._answer(messages, b"-NAK " + delay if delay_seconds else b"-NAK")

    async def in_progress(self, messages: Sequence[IntakeMessage]) -> None:
        """Ask for as much time again as `ack_wait_seconds`."""
        await self._answer(messages, b"+WPI")

    async def stats(self) -> QueueStats:
        """Ask how full the queue is.

        The stream is asked first: its consumer hears of a new message a little later, and must not
        pass for drained before it has.
        """
        state = (await call_api(self._connection, f"STREAM.INFO.{self._stream}"))["state"]
        consumer = await call_api(self._connection, f"CONSUMER.INFO.{self._stream}.{CONSUMER}")
        undelivered = int(state["last_seq"]) - int(consumer["delivered"]["stream_seq"])
        return QueueStats(
            pending=max(int(consumer["num_pending"]), undelivered),
            ack_pending=consumer["num_ack_pending"],
            redelivered=consumer["num_redelivered"],
            kept_messages=state["messages"],
            kept_bytes=state["bytes"],
        )

    async def trim(self, *, settled_before: datetime) -> int:
        """Forget settled messages that were received before a time; give how many went.

        When more than half of the room is taken, all that is settled goes. A purge leaves bytes in
        a block that holds something newer, so what lies there is overwritten.
        """
        consumer = await call_api(self._connection, f"CONSUMER.INFO.{self._stream}.{CONSUMER}")
        state = (await call_api(self._connection, f"STREAM.INFO.{self._stream}"))["state"]
        settled = int(consumer["ack_floor"]["stream_seq"])
        kept_from = settled + 1
        if state["bytes"] <= self._bytes_max // 2:
            kept_from = await self._first_since(
                settled_before, first=int(state["first_seq"]), after=settled + 1
            )
        first = int(state["first_seq"])
        if kept_from > int(state["last_seq"]) or state["bytes"] > self._bytes_max // 2:
            return await self._purge(first, kept_from)
        gone = await self._purge(first, kept_from - ERASED_LATER_MAX)
        first += gone
        until = min(kept_from, first + ERASED_AT_ONCE_MAX)
        await erase(JetStreamApi(self._connection), self._stream, range(first, until))
        return gone + max(0, until - first)

    async def _purge(self, first: int, kept_from: int) -> int:
        if kept_from <= first:
            return 0
        request = {"seq": kept_from}
        purged = await call_api(self._connection, f"STREAM.PURGE.{self._stream}", request)
        return int(purged["purged"])

    async def _first_since(self, time: datetime, *, first: int, after: int) -> int:
        """Find, between two sequences, the first message received at a time or later."""
        while first < after:
            middle = (first + after) // 2
            received_at = await self._received_at(middle)
            if received_at is not None and received_at >= time:
                after = middle
            else:
                first = middle + 1
        return first

    async def _received_at(self, sequence: int) -> datetime | None:
        try:
            answer = await call_api(
                self._connection, f"STREAM.MSG.GET.{self._stream}", {"seq": sequence}
            )
        except ApiRefused:
            return None
        return datetime.fromisoformat(answer["message"]["time"])

    async def _request(self, batch_messages_max: int, *, wait_seconds: float) -> None:
        """Ask for messages, and wait until as many came or the server says that no more will."""
        reply = f"{self._inbox}.{next(self._pulls)}"
        wanted = len(self._delivered) + batch_messages_max
        ask: dict[str, int | bool] = {"batch": batch_messages_max, "max_bytes": PULL_BYTES_MAX}
        if wait_seconds:
            ask["expires"] = int(wait_seconds * NANOSECONDS)
        else:
            ask["no_wait"] = True
        self._ended.clear()
        watch = self._connection.open_inbox(lambda _: None, lambda: self._end(reply, LOST))
        try:
            await self._connection.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{CONSUMER}",
                orjson.dumps(ask),
                reply=reply,
            )
            async with asyncio.timeout(wait_seconds + PULL_GRACE_SECONDS):
                while len(self._delivered) < wanted and reply not in self._ended:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return  # the end was lost on its way; whatever was delivered unseen comes again
        finally:
            watch.close()
        status = self._ended.get(reply)
        if status is not None and status not in NO_MESSAGES and not self._delivered:
            raise LogUnavailable(f"the intake's consumer does not deliver (status {status})")

    async def _receive(self, received: Received) -> None:
        """Take what the server sends: a message, or the end of a pull."""
        message = _message(received)
        if message is None:
            self._end(received.subject, (received.headers or {}).get("Status", ""))
            return
        self._delivered.append(message)
        self._changed.set()

    def _end(self, reply: str, status: str) -> None:
        self._ended[reply] = status
        self._changed.set()

    async def _answer(self, messages: Sequence[IntakeMessage], verb: bytes) -> None:
        for message in messages:
            await self._connection.publish(message.token, verb)


def _message(received: Received) -> IntakeMessage | None:
    """Read a delivered message; None for a word of the server's own."""
    if not received.reply.startswith(ACK_PREFIX):
        return None
    tokens = received.reply.split(".")
    if len(tokens) > ACK_TOKENS_SHORT:
        tokens = tokens[ACK_TOKENS_DOMAIN:]
    _, _, _, _, deliveries, sequence, _, time, *_ = tokens
    return IntakeMessage(
        subject=received.subject,
        headers=received.headers or NO_HEADERS,
        data=received.data,
        sequence=int(sequence),
        deliveries=int(deliveries),
        received_at=_time(int(time)),
        token=received.reply,
    )


def _time(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=rest // 1_000)
