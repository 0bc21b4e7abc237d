"""The intake queue on JetStream: several streams a workspace, a durable pull consumer on each.

A stream has one worker, or its keys would lose their order; a worker may have several streams.

Implements `IntakeQueue` with raw pull requests over `eventlog.connection`. What is delivered is
told from what the server says by its reply subject, never by headers: those are the publisher's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import orjson

from actors.intake.api import NANOSECONDS, ApiRefused, JsonObject, call_api, ensure_stream
from actors.intake.port import NO_HEADERS, IntakeMessage, QueueStats
from actors.intake.streams import (
    INTAKE_STREAMS,
    published_subject,
    stream_name,
    stream_subjects,
)
from eventlog.connection import Connection, Received, Subscription
from eventlog.erasing import erase
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi

INTAKE_BYTES_MAX = 16 * 1_073_741_824 // INTAKE_STREAMS
"""Of one stream. A full one refuses publishers, so that they keep what it cannot take: nothing is
dropped."""
ACK_WAIT_SECONDS = 30.0
ACK_PENDING_MAX = 20_000
DUPLICATE_WINDOW_SECONDS = 30
PULL_BYTES_MAX = 16 * 1_048_576
"""What one pull asks for at most; many times the largest message."""
PULL_GRACE_SECONDS = 1.0
"""How long after its end a pull may still be answered."""
ERASED_AT_ONCE_MAX = 2_000
"""Messages that one trim overwrites in each stream; a server manages some 180 a second."""
ERASED_LATER_MAX = 20_000
"""Old messages of a stream that wait to be overwritten. Of more, the older ones are purged: where
so many come, the block that they lie in is full, and gone, before long."""
LEAVES_WITHIN_SECONDS = 1_800.0
"""How long after its time the bytes of a settled message may rest on the disk at most."""
TOPPED_UP_BELOW = 0.5
"""A pull that brought less than this part of a round gathers a little more."""

CONSUMER = "workers"
CONSUMER_NOT_FOUND = 10014
ACK_PREFIX = "$JS.ACK."
ACK_TOKENS_SHORT = 9
"""`$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<place>.<time>.<pending>`"""
ACK_TOKENS_DOMAIN = 2
"""With a domain, so many tokens more stand before the stream's name."""

NO_MESSAGES = frozenset({"404", "408"})
LOST = "lost"
"""How a pull ends whose connection was lost."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A pull that the server holds until a message comes, or its time is over."""

    reply: str
    until: float


class JetStreamIntake:
    """The intake of one workspace, or some streams of it, as one process sees it."""

    def __init__(
        self,
        connection: Connection,
        *,
        workspace: str,
        places: Sequence[int] = range(INTAKE_STREAMS),
        ack_wait_seconds: float = ACK_WAIT_SECONDS,
        replicas: int = 1,
        bytes_max: int = INTAKE_BYTES_MAX,
    ) -> None:
        self._connection = connection
        self._workspace = workspace
        self._streams = {stream_name(workspace, place): place for place in places}
        self._ack_wait_seconds = ack_wait_seconds
        self._replicas = replicas
        self._bytes_max = bytes_max
        self._inbox = connection.new_inbox()
        self._pulls = count(1)
        self._subscription: Subscription | None = None
        self._delivered: deque[IntakeMessage] = deque()
        self._ended: dict[str, str] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._delivered_before: dict[str, int] = {}
        self._changed = asyncio.Event()

    @property
    def ack_wait_seconds(self) -> float:
        """How long a delivered message may stay unsettled before it is delivered again."""
        return self._ack_wait_seconds

    async def open(self) -> None:
        """Make streams and consumers as they have to be, and listen. Raises `LogUnavailable`."""
        await self.open_streams()
        for stream in self._streams:
            await self._open_consumer(stream)
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._receive)

    async def _open_consumer(self, stream: str) -> None:
        """Make the consumer; where a worker before this one left messages, begin again with them.

        They come at once then, and in their order, ahead of what has that order's keys and is new.
        """
        begin: JsonObject = {"deliver_policy": "all"}
        ack_wait = int(self._ack_wait_seconds * NANOSECONDS)
        try:
            found = await call_api(self._connection, f"CONSUMER.INFO.{stream}.{CONSUMER}")
        except ApiRefused as error:
            if error.code != CONSUMER_NOT_FOUND:
                raise
        else:
            if not found["num_ack_pending"] and found["config"]["ack_wait"] == ack_wait:
                return
            first = int(found["ack_floor"]["stream_seq"]) + 1
            begin = {"deliver_policy": "by_start_sequence", "opt_start_seq": first}
            self._delivered_before[stream] = int(found["delivered"]["stream_seq"])
            await call_api(self._connection, f"CONSUMER.DELETE.{stream}.{CONSUMER}")
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "replay_policy": "instant",
            "ack_wait": ack_wait,
            "max_ack_pending": ACK_PENDING_MAX,
            "max_deliver": -1,
            **begin,
        }
        await call_api(
            self._connection,
            f"CONSUMER.DURABLE.CREATE.{stream}.{CONSUMER}",
            {"stream_name": stream, "config": config},
        )

    async def open_streams(self) -> None:
        """Make the streams that are not there, so that publishers may begin."""
        for stream, place in self._streams.items():
            await ensure_stream(
                self._connection,
                {
                    "name": stream,
                    "subjects": stream_subjects(self._workspace, place),
                    "storage": "file",
                    "retention": "limits",
                    "discard": "new",
                    "max_bytes": await self._room_of(stream),
                    "duplicate_window": DUPLICATE_WINDOW_SECONDS * NANOSECONDS,
                    "num_replicas": self._replicas,
                    "allow_direct": True,
                },
            )

    async def _room_of(self, stream: str) -> int:
        """Give what a stream may hold: never less than it may by now, or the server would drop."""
        try:
            config = (await call_api(self._connection, f"STREAM.INFO.{stream}"))["config"]
        except ApiRefused:
            return self._bytes_max
        return max(self._bytes_max, int(config["max_bytes"]))

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

    async def settled_through(self) -> dict[str, int]:
        """Say of each stream up to which sequence everything is settled."""
        found = {}
        for stream in self._streams:
            told = await call_api(self._connection, f"CONSUMER.INFO.{stream}.{CONSUMER}")
            found[stream] = int(told["ack_floor"]["stream_seq"])
        return found

    async def stats(self) -> QueueStats:
        """Ask how full the queue is."""
        each = await asyncio.gather(*(self._stats_of(stream) for stream in self._streams))
        return QueueStats(
            pending=sum(one.pending for one in each),
            ack_pending=sum(one.ack_pending for one in each),
            kept_messages=sum(one.kept_messages for one in each),
            kept_bytes=sum(one.kept_bytes for one in each),
        )

    async def _stats_of(self, stream: str) -> QueueStats:
        """Ask of one stream.

        The stream is asked first: its consumer hears of a new message a little later, and must not
        pass for drained before it has.
        """
        state = (await call_api(self._connection, f"STREAM.INFO.{stream}"))["state"]
        consumer = await call_api(self._connection, f"CONSUMER.INFO.{stream}.{CONSUMER}")
        undelivered = int(state["last_seq"]) - int(consumer["delivered"]["stream_seq"])
        return QueueStats(
            pending=max(int(consumer["num_pending"]), undelivered),
            ack_pending=consumer["num_ack_pending"],
            kept_messages=state["messages"],
            kept_bytes=state["bytes"],
        )

    async def trim(self, *, settled_before: datetime) -> int:
        """Forget settled messages that were received before a time; give how many went.

        When more than half of a stream's room is taken, all that is settled there goes. A purge
        leaves bytes in a block that holds something newer, so what lies there is overwritten.
        """
        each = [await self._trim(stream, settled_before) for stream in self._streams]
        return sum(each)

    async def _trim(self, stream: str, settled_before: datetime) -> int:
        consumer = await call_api(self._connection, f"CONSUMER.INFO.{stream}.{CONSUMER}")
        state = (await call_api(self._connection, f"STREAM.INFO.{stream}"))["state"]
        settled = int(consumer["ack_floor"]["stream_seq"])
        kept_from = settled + 1
        if state["bytes"] <= self._bytes_max // 2:
            kept_from = await self._first_since(
                stream, settled_before, first=int(state["first_seq"]), after=settled + 1
            )
        first = int(state["first_seq"])
        if kept_from > int(state["last_seq"]) or state["bytes"] > self._bytes_max // 2:
            return await self._purge(stream, first, kept_from)
        gone = await self._purge(stream, first, kept_from - ERASED_LATER_MAX)
        first += gone
        until = min(kept_from, first + ERASED_AT_ONCE_MAX)
        await erase(JetStreamApi(self._connection), stream, range(first, until))
        return gone + max(0, until - first)

    async def _purge(self, stream: str, first: int, kept_from: int) -> int:
        if kept_from <= first:
            return 0
        request = {"seq": kept_from}
        purged = await call_api(self._connection, f"STREAM.PURGE.{stream}", request)
        return int(purged["purged"])

    async def _first_since(self, stream: str, time: datetime, *, first: int, after: int) -> int:
        """Find, between two sequences, the first message received at a time or later."""
        while first < after:
            middle = (first + after) // 2
            received_at = await self._received_at(stream, middle)
            if received_at is not None and received_at >= time:
                after = middle
            else:
                first = middle + 1
        return first

    async def _received_at(self, stream: str, sequence: int) -> datetime | None:
        try:
            answer = await call_api(self._connection, f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        except ApiRefused:
            return None
        return datetime.fromisoformat(answer["message"]["time"])

    async def _request(self, batch_messages_max: int, *, wait_seconds: float) -> None:
        """Ask each stream for messages, and wait until as many came or none will come any more."""
        wanted = len(self._delivered) + batch_messages_max
        self._ended.clear()
        watch = self._connection.open_inbox(lambda _: None, self._lose)
        try:
            asked = [
                await self._ask(stream, batch_messages_max, wait_seconds=wait_seconds)
                for stream in self._streams
            ]
            async with asyncio.timeout(wait_seconds + PULL_GRACE_SECONDS):
                while len(self._delivered) < wanted and not self._have_ended(asked):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return  # the end was lost on its way; whatever was delivered unseen comes again
        finally:
            watch.close()
        faults = {status for status in self._ended.values() if status not in NO_MESSAGES}
        if faults and not self._delivered:
            raise LogUnavailable(f"a consumer of intake does not deliver (status {min(faults)})")

    async def _ask(self, stream: str, batch_messages_max: int, *, wait_seconds: float) -> str:
        """Ask one stream; one that was asked before, and still waits, is not asked again."""
        now = asyncio.get_running_loop().time()
        before = self._waiting.get(stream)
        if wait_seconds and before is not None and now < before.until:
            return before.reply
        reply = f"{self._inbox}.{next(self._pulls)}"
        ask: dict[str, int | bool] = {"batch": batch_messages_max, "max_bytes": PULL_BYTES_MAX}
        if wait_seconds:
            ask["expires"] = int(wait_seconds * NANOSECONDS)
            self._waiting[stream] = _Waiting(reply, now + wait_seconds)
        else:
            ask["no_wait"] = True
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{CONSUMER}"
        await self._connection.publish(subject, orjson.dumps(ask), reply=reply)
        return reply

    def _have_ended(self, asked: Sequence[str]) -> bool:
        return LOST in self._ended or all(reply in self._ended for reply in asked)

    def _receive(self, received: Received) -> None:
        """Take what the server sends: a message, or the end of a pull."""
        message = _message(received, self._workspace)
        if message is None:
            self._end(received.subject, (received.headers or {}).get("Status", ""))
            return
        self._waiting.pop(message.stream, None)  # the server serves first who waits longest
        if message.sequence <= self._delivered_before.get(message.stream, 0):
            # A consumer that was begun again counts from one.
            message = replace(message, deliveries=message.deliveries + 1)
        self._delivered.append(message)
        self._changed.set()

    def _lose(self) -> None:
        """End every pull: the connection is gone."""
        self._waiting.clear()
        self._end(LOST, LOST)

    def _end(self, reply: str, status: str) -> None:
        for stream, waiting in list(self._waiting.items()):
            if waiting.reply == reply:
                del self._waiting[stream]
        self._ended[reply] = status
        self._changed.set()

    async def _answer(self, messages: Sequence[IntakeMessage], verb: bytes) -> None:
        for message in messages:
            await self._connection.publish(message.token, verb)


def _message(received: Received, workspace: str) -> IntakeMessage | None:
    """Read a delivered message; None for a word of the server's own."""
    if not received.reply.startswith(ACK_PREFIX):
        return None
    tokens = received.reply.split(".")
    if len(tokens) > ACK_TOKENS_SHORT:
        tokens = tokens[ACK_TOKENS_DOMAIN:]
    _, _, stream, _, deliveries, sequence, _, time, *_ = tokens
    return IntakeMessage(
        subject=published_subject(received.subject, workspace=workspace),
        headers=received.headers or NO_HEADERS,
        data=received.data,
        sequence=int(sequence),
        deliveries=int(deliveries),
        received_at=_time(int(time)),
        token=received.reply,
        stream=stream,
    )


def _time(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=rest // 1_000)
