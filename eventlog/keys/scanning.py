"""Reads a key stream from one end to the other, while others write to it, move keys and remove.

Used by `renewal.py`, and for backups and counts of keys by `jetstream.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from eventlog.errors import LogUnavailable
from eventlog.keys.key_stream import PADDING, SCAN_KEYS_MAX, KeyMessage, KeyStream
from eventlog.keys.places import TURNOVER

TURNS_MAX = 20


async def scan(
    stream: KeyStream, before: int, *, after: int = 0
) -> AsyncGenerator[list[KeyMessage], None]:
    """Yield pages of what lies before a sequence, if there is a message there or after it.

    Keys that are turned over meanwhile are read on where they lie then. Raises `LogUnavailable`.
    """
    page: list[KeyMessage] = []
    while after < before - 1:
        consumer = await stream.consume(after + 1)
        try:
            while after < before - 1 and (deliveries := await consumer.receive()):
                after = deliveries[-1].revision
                found = (stream.delivered(d) for d in deliveries if d.revision < before)
                page += (message for message in found if message.owner != TURNOVER)
                while len(page) >= SCAN_KEYS_MAX:
                    yield page[:SCAN_KEYS_MAX]
                    page = page[SCAN_KEYS_MAX:]
        finally:
            with suppress(LogUnavailable):  # the server drops it by itself after a while
                await consumer.close()
    yield page


async def read_whole(stream: KeyStream) -> AsyncGenerator[list[KeyMessage], None]:
    """Yield pages of all that a stream holds at the end of the reading, newest last.

    A key may be moved from before the reader to behind where it meant to stop: so it reads on to
    the new end, until nothing was removed that it had not read. Raises `LogUnavailable`.
    """
    after = 0
    for turn in range(TURNS_MAX):
        extent, read = await stream.extent(), 0
        async with aclosing(scan(stream, extent.last + 1, after=after)) as pages:
            async for page in pages:
                read += len(page)
                yield [message for message in page if message.owner != PADDING]
        is_whole = read == extent.last - after
        is_whole = is_whole or (await stream.extent()).removed == extent.removed
        if turn and is_whole:  # the second turn has what came during the first
            return
        after = extent.last
    raise LogUnavailable("keys were moved all the time that they were read")
