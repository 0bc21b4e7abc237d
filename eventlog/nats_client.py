"""nats-py's client as `connection.py` uses it, with what had to be changed in it.

It hands out every message that the server delivers, whatever bytes a publisher put into its subject
and headers; at once, without a queue and a task on the way. What is sent is written at once too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from eventlog.nats_parser import LINE_END, SturdyParser
from eventlog.wire import HEADER_LINE, parse_header_block, parse_header_lines

UNSENT_BYTES_MAX = 256 * 1024
"""More than this in the socket's buffer, and what is sent waits in nats-py's own."""


class Received(Protocol):
    """A message as it arrives."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


Handler = Callable[[Received], None]
"""Takes a message before the next one is read: it must be quick."""


class Message(NamedTuple):
    """What a client hands out."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


class WatchedClient(Client):
    """A client that can be ended in any state, and that no message can break."""

    _parse_header_lines = staticmethod(parse_header_lines)

    def __init__(self) -> None:
        super().__init__()
        self._ps = SturdyParser(self)
        self._ending: asyncio.Task[None] | None = None

    async def listen(self, subject: str, take: Handler, *, queue: str = "") -> Subscription:
        """Take every message on a subject; members of one queue share them."""

        async def callback(message: Received) -> None:
            take(message)

        return await self.subscribe(subject, queue=queue, cb=callback)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        """Hand out a message; by nats-py's queue and task a log takes half as long again."""
        subscription = self._subs.get(sid)
        if subscription is None or subscription._cb is None:  # noqa: SLF001  # nowhere else
            return
        try:
            said = await self._process_headers(headers)
            told = subject.decode(errors="replace"), reply.decode(errors="replace")
            await subscription._cb(Message(*told, data, said))  # type: ignore[arg-type]  # noqa: SLF001  # it is read like theirs
        except Exception as error:  # noqa: BLE001  # or nothing would be read any more
            await self._error_cb(error)

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """Read headers; None for a block that is not one."""
        if not headers or not headers.startswith(HEADER_LINE) or not headers.endswith(LINE_END):
            return None
        if headers.startswith(LINE_END, len(HEADER_LINE)):  # without a status, as nearly all are
            return parse_header_block(headers)
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            return None

    async def send(self, block: bytes) -> None:
        """Write what a server is to get, behind what waits to be written."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None and not self._pending and not _is_crowded(writer):
            writer.write(block)
            return
        await self._send_command(block)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def drop_unsent(self) -> None:
        """Forget what was not sent yet: on another connection its sender would not expect it."""
        self._pending.clear()
        self._pending_data_size = 0

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002  # nats-py's own
        """Flush; who is cancelled meanwhile hears of it, which nats-py keeps to itself.

        Without that a time-out that meets a full buffer is lost, and its wait never ends.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        flushed = await super()._flush_pending(force_flush)
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
        return flushed

    async def end(self, timeout_seconds: float) -> None:
        """Close, whatever state the client is in.

        In a task of its own: nats-py's `close` may take a cancellation and go on for ever.
        """
        self._ending = asyncio.create_task(self._end())
        _, late = await asyncio.wait([self._ending], timeout=timeout_seconds)
        for task in late:
            task.cancel()

    async def _end(self) -> None:
        with suppress(Exception):  # a dead client may fail in any way while it is taken down
            await self.close()


def _is_crowded(writer: asyncio.StreamWriter) -> bool:
    """Whether a server reads more slowly than is written."""
    return writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX
