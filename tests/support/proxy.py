"""A TCP proxy between a client and a server, to lose exactly what a test wants lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlparse


class Proxy:
    """Pass bytes on; swallow requests or answers, cut connections."""

    def __init__(self, server_url: str) -> None:
        self._target_port = urlparse(server_url).port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallows_requests = False
        self.swallows_answers = False
        self.loses_answers_to = b""
        """From a request on that holds this, answers are swallowed, until the next `cut`."""
        self.url = ""

    def cut(self) -> None:
        """Cut every connection, and pass everything on again for the next ones."""
        self.swallows_requests = self.swallows_answers = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, to_server[1]]
        for source, sink, is_request in (
            (reader, to_server[1], True),
            (to_server[0], writer, False),
        ):
            task = asyncio.create_task(self._pass(source, sink, is_request=is_request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                if is_request and self.loses_answers_to and self.loses_answers_to in data:
                    self.swallows_answers, self.loses_answers_to = True, b""
                swallows = self.swallows_requests if is_request else self.swallows_answers
                if not swallows:
                    sink.write(data)
                    await sink.drain()
        sink.transport.abort()


@asynccontextmanager
async def proxy_to(server_url: str) -> AsyncIterator[Proxy]:
    """Run a proxy to a server."""
    proxy = Proxy(server_url)
    listener = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()
        proxy.cut()
        for task in list(proxy._tasks):
            task.cancel()
