"""nats-py's client as `connection.py` uses it, with what had to be changed in it.

It hands out every message that the server delivers, whatever bytes a publisher put into its subject
and headers; at once, without a queue and a task on the way. What is sent is written at once too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from eventlog.nats_parser import MessageReader
from eventlog.wire import parse_message_headers

UNSENT_BYTES_MAX = 256 * 1024
"""More than this in the socket's buffer, and what is sent waits in nats-py's own."""


class Received(NamedTuple):
    """A message as it arrives."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


Handler = Callable[[Received], None]
"""Takes a message before the next one is read: it must be quick."""


class WatchedClient(Client):
    """A client that can be ended in any state, and that no message can break.

    `on_fault` hears what a handler raised.
    """

    def __init__(self, on_fault: Callable[[Exception], None]) -> None:
        super().__init__()
        self._on_fault = on_fault
        self._handlers: dict[int, Handler] = {}
        self._ending: asyncio.Task[None] | None = None

    async def listen(self, subject: str, take: Handler, *, queue: str = "") -> Subscription:
        """Take every message on a subject; members of one queue share them."""
        self._handlers[self._sid + 1] = take  # the number that nats-py is about to give
        return await self.subscribe(subject, queue=queue)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._handlers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _read_loop(self) -> None:
        """Read as nats-py does, but hand out messages as they come in, before its task runs.

        By its queue and tasks a log takes half as long again. Its parser gets the other lines.
        """
        reader: Any = getattr(self._transport, "_io_reader", None)  # Any: it is reached into
        messages = MessageReader(self._hand_out)
        to_parser = reader.feed_data

        def take(data: bytes) -> None:
            if others := messages.read(data):
                to_parser(others)

        here_already = bytes(reader._buffer)  # noqa: SLF001  # nowhere else
        reader._buffer.clear()  # noqa: SLF001
        reader.feed_data = take
        take(here_already)
        await super()._read_loop()

    def _hand_out(
        self, sid: int, subject: bytes, reply: bytes, headers: bytes, body: bytes
    ) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            return
        try:
            said = parse_message_headers(headers) if headers else None
            names = subject.decode(errors="replace"), reply.decode(errors="replace")
            handler(Received(*names, body, said))
        except Exception as error:  # noqa: BLE001  # or nothing would be read any more
            self._on_fault(error)

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
