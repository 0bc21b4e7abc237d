"""A connection to NATS that stays alive: everything that talks to a server goes through one.

nats-py reconnects by itself, but an exception in its read loop or its reconnecting leaves a dead
client; a watchdog makes a round trip every second and puts a new client in its place. Requests end
with an answer, or with `LogUnavailable` when their time is up or the connection was lost; the
subclass `NotSent` says that nothing can have been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import structlog
from nats.aio.subscription import Subscription as ClientSubscription

from eventlog.errors import LogUnavailable
from eventlog.nats_client import Handler, Received, WatchedClient
from eventlog.wire import Outbound, encode

__all__ = ["Connection", "Handler", "Inbox", "NotSent", "Received", "Subscription"]

RECONNECT_WAIT_SECONDS = 0.1
CONNECT_TIMEOUT_SECONDS = 2
WATCH_SECONDS = 1.0
ROUND_TRIP_SECONDS_MAX = 2.0
ROUND_TRIPS_LOST_MAX = 2
DISCONNECTED_SECONDS_MAX = 5.0
DEFAULT_INBOX_PREFIX = "_INBOX"

_logger = structlog.get_logger(__name__)


class NotSent(LogUnavailable):
    """Nothing reached a server, or nobody was there to take it: it was surely not done."""


class _Waiting(NamedTuple):
    """Who takes the messages that come to one of our reply subjects."""

    take: Handler
    lose: Callable[[], None]


class Inbox:
    """A reply subject of ours: `take` gets what comes, `lose` hears of a lost connection."""

    def __init__(self, connection: Connection, token: str, subject: str) -> None:
        self.subject = subject
        self._connection = connection
        self._token = token

    def close(self) -> None:
        """Take no more."""
        self._connection.forget(self._token)


class Subscription:
    """Interest in a subject, which lasts over reconnects until it is ended."""

    def __init__(
        self, subject: str, take: Handler, *, queue: str, on_lost: Callable[[], None] | None
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.take = take
        self.on_lost = on_lost
        self.on_client: ClientSubscription | None = None
        self.is_ended = False

    async def unsubscribe(self) -> None:
        """End the interest; messages already here may still reach the callback."""
        self.is_ended = True
        if self.on_client is not None:
            with suppress(Exception):  # a client that is closed has no subscriptions to end
                await self.on_client.unsubscribe()


class Connection:
    """Share one connection among everything in this process that talks to a server."""

    def __init__(self, servers: Sequence[str], *, name: str, options: Mapping[str, Any]) -> None:
        # Any: options of nats-py's `connect`, such as tls, token and user_credentials.
        self._servers = list(servers)
        self._name = name
        self._options = dict(options)
        self._client = WatchedClient(self._note_fault)
        self._inbox = self.new_inbox() + "."
        self._tokens = count(1)
        self._waiting: dict[str, _Waiting] = {}
        self._subscriptions: list[Subscription] = []
        self._connected = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._last_error = ""
        self.rebuilds = 0
        self.losses = 0
        """Grows whenever the connection is lost, so that it tells connections apart."""

    @classmethod
    async def open(
        cls,
        servers: str | Sequence[str],
        *,
        name: str = "koseki",
        timeout_seconds: float = 10.0,
        options: Mapping[str, Any] | None = None,
    ) -> Connection:
        """Connect, or raise `LogUnavailable`."""
        urls = [servers] if isinstance(servers, str) else servers
        connection = cls(urls, name=name, options=options or {})
        try:
            await connection._build(timeout_seconds)
        except LogUnavailable:
            await connection.close()
            raise
        connection._watcher = asyncio.create_task(connection._watch(), name=f"watch {name}")
        return connection

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._client.is_connected

    @property
    def server_name(self) -> str:
        """The name of the server at the other end, as of its last INFO."""
        return str(self._client._server_info.get("server_name", ""))  # noqa: SLF001  # nowhere else

    @property
    def payload_bytes_max(self) -> int:
        """The most that the server takes as headers and body of one message."""
        return self._client.max_payload

    async def wait_connected(self, *, timeout_seconds: float) -> bool:
        """Wait until messages can be sent; false when the time is up."""
        if self._client.is_connected:
            return True
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return self._client.is_connected

    async def wait_for_server_name(self, expected: str, *, timeout_seconds: float) -> None:
        """Require that it is this server that answers, before the first write."""
        await self.wait_connected(timeout_seconds=timeout_seconds)
        if self.server_name != expected:
            raise LogUnavailable(f"a server other than {expected} answers at its address")

    async def publish(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Send a message; that it was sent does not say that it arrived.

        `MessageTooLarge` where the server would not take it, here and in requests.
        """
        message = Outbound(subject, headers or {}, body)
        await self._send(encode(message, reply, bytes_max=self.payload_bytes_max))

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
    ) -> Received:
        """Send a message and wait for its answer."""
        message = Outbound(subject, headers or {}, body)
        return (await self.request_all([message], timeout_seconds=timeout_seconds))[0]

    async def request_all(
        self,
        messages: Sequence[Outbound],
        *,
        is_last: Callable[[Received], bool] | None = None,
        losses: int | None = None,
        timeout_seconds: float,
    ) -> list[Received]:
        """Send messages in one piece and wait for what answers the last of them.

        One answer, or as many as it takes until `is_last` says so. With `losses`, only on the
        connection that had so many before it; else `NotSent`.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        answers: list[Received] = []

        def take(answer: Received) -> None:
            answers.append(answer)
            if not done.done() and (is_last is None or is_last(answer)):
                done.set_result(None)

        def lose(message: str = "the connection was lost") -> None:
            if not done.done():
                done.set_exception(LogUnavailable(message))

        inbox = self.open_inbox(take, lose)
        timer = loop.call_later(timeout_seconds, lose, "the server did not answer in time")
        try:
            await self._send(self._block(messages, inbox.subject), losses=losses)
            await done
        finally:
            timer.cancel()
            inbox.close()
        if (answers[0].headers or {}).get("Status") == "503":
            raise NotSent("nobody is there to take the request")
        return answers

    def open_inbox(self, take: Handler, lose: Callable[[], None]) -> Inbox:
        """Open a reply subject; `lose`, as `take`, must be quick and raise nothing."""
        token = str(next(self._tokens))
        self._waiting[token] = _Waiting(take, lose)
        return Inbox(self, token, self._inbox + token)

    def forget(self, token: str) -> None:
        """Close an inbox (`Inbox.close`)."""
        self._waiting.pop(token, None)

    def new_inbox(self) -> str:
        """Name a reply subject to subscribe to, for what `open_inbox` cannot take.

        A consumer's messages come under their own subjects, so they need a subscription of their
        own to be told apart. It begins with the option `inbox_prefix`, so that permissions can
        keep what is answered to one role from the others.
        """
        prefix = self._options.get("inbox_prefix", DEFAULT_INBOX_PREFIX)
        return f"{prefix.decode() if isinstance(prefix, bytes) else prefix}.{uuid4().hex}"

    async def subscribe(
        self,
        subject: str,
        take: Handler,
        *,
        queue: str = "",
        on_lost: Callable[[], None] | None = None,
    ) -> Subscription:
        """Take every message on a subject; members of one queue share them.

        `on_lost` hears that messages may have been missed, because the connection was lost.
        """
        subscription = Subscription(subject, take, queue=queue, on_lost=on_lost)
        self._subscriptions = [s for s in self._subscriptions if not s.is_ended]
        self._subscriptions.append(subscription)
        if self._client.is_connected:
            await self._subscribe_on(self._client, subscription)
        return subscription

    async def close(self) -> None:
        """Send what is waiting, then end the connection."""
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self._client.end(CONNECT_TIMEOUT_SECONDS)
        self._lose_all()

    def _block(self, messages: Sequence[Outbound], reply: str) -> bytes:
        """Write messages in one piece; the reply goes with the last."""
        bytes_max = self.payload_bytes_max
        *before, last = messages
        parts = [encode(message, bytes_max=bytes_max) for message in before]
        return b"".join([*parts, encode(last, reply, bytes_max=bytes_max)])

    async def _send(self, block: bytes, *, losses: int | None = None) -> None:
        client = self._client
        if not client.is_connected:
            raise NotSent("the connection is down")
        if losses is not None and losses != self.losses:
            raise NotSent("the connection is another one")
        # nats-py's `publish` takes 28 us a message with our headers, a ready block takes 4.5; and
        # only a block keeps the messages of an atomic batch together.
        await client.send(block)

    async def _build(self, timeout_seconds: float) -> None:
        """Connect a new client and move everything over to it."""
        old, client = self._client, WatchedClient(self._note_fault)
        await old.end(CONNECT_TIMEOUT_SECONDS)
        self._lose_all()
        self._client = client

        async def disconnected() -> None:
            client.drop_unsent()
            if self._client is client:
                self._lose_all()

        async def reconnected() -> None:
            self._last_error = ""
            self._connected.set()
            _logger.info("nats_reconnected", connection=self._name, server=self.server_name)

        try:
            async with asyncio.timeout(timeout_seconds):
                await client.connect(
                    self._servers,
                    name=self._name,
                    error_cb=self._on_error,
                    disconnected_cb=disconnected,
                    closed_cb=disconnected,
                    reconnected_cb=reconnected,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # it sleeps so long
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    ping_interval=CONNECT_TIMEOUT_SECONDS,
                    flush_timeout=ROUND_TRIP_SECONDS_MAX,
                    **self._options,
                )
                await self._subscribe_all(client)
        except TimeoutError:
            why = f" ({self._last_error})" if self._last_error else ""
            raise LogUnavailable(f"no server answers at the given addresses{why}") from None
        self._connected.set()

    async def _subscribe_all(self, client: WatchedClient) -> None:
        await client.listen(self._inbox + "*", self._on_answer)
        self._subscriptions = [s for s in self._subscriptions if not s.is_ended]
        for subscription in self._subscriptions:
            await self._subscribe_on(client, subscription)

    async def _subscribe_on(self, client: WatchedClient, subscription: Subscription) -> None:
        subscription.on_client = await client.listen(
            subscription.subject, subscription.take, queue=subscription.queue
        )

    def _on_answer(self, message: Received) -> None:
        waiting = self._waiting.get(message.subject[len(self._inbox) :])
        if waiting is not None:
            waiting.take(message)

    async def _on_error(self, error: Exception) -> None:
        self._note_fault(error)

    def _note_fault(self, error: Exception) -> None:
        kind = type(error).__name__
        if kind != self._last_error:
            _logger.warning("nats_error", connection=self._name, error=kind)
        self._last_error = kind

    def _lose_all(self) -> None:
        self._connected.clear()
        self.losses += 1
        for waiting in list(self._waiting.values()):
            waiting.lose()
        for subscription in self._subscriptions:
            if subscription.on_lost is not None and not subscription.is_ended:
                subscription.on_lost()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        lost, connected_at = 0, loop.time()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._client.is_connected:
                connected_at = loop.time()
                lost = 0 if await self._round_trip() else lost + 1
            is_away = loop.time() - connected_at > DISCONNECTED_SECONDS_MAX
            if lost >= ROUND_TRIPS_LOST_MAX or is_away or self._client.is_closed:
                await self._rebuild()
                lost, connected_at = 0, loop.time()

    async def _rebuild(self) -> None:
        self.rebuilds += 1
        _logger.warning("nats_client_rebuilt", connection=self._name, rebuilds=self.rebuilds)
        with suppress(LogUnavailable):  # the next round of the watch tries again
            await self._build(DISCONNECTED_SECONDS_MAX)

    async def _round_trip(self) -> bool:
        """Send a message to ourselves, and see it come.

        Not nats-py's own `rtt`: a pong that comes after its time-out ends the read loop.
        """
        arrived = asyncio.Event()
        inbox = self.open_inbox(lambda _: arrived.set(), lambda: None)
        try:
            async with asyncio.timeout(ROUND_TRIP_SECONDS_MAX):
                await self.publish(inbox.subject)
                await arrived.wait()
        except (TimeoutError, LogUnavailable):
            return False
        finally:
            inbox.close()
        return True
