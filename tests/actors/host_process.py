"""A customer host in a process of its own that believes to own everybody: `python -m` this.

Arguments: the server's URL and the workspace. Prints the port that it listens on. A call is four
bytes of length and a batch of commands, its answer the same with the replies. Ends with its parent.
"""

from __future__ import annotations

import asyncio
import sys

from actors.clock import SystemClock
from actors.host import CustomerHost
from actors.messages import decode_commands, encode_replies
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog

CONNECT_SECONDS_MAX = 10.0


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Read one length and what it measures."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


def frame(data: bytes) -> bytes:
    """Put the length before data."""
    return len(data).to_bytes(4, "big") + data


async def serve(url: str, workspace: str) -> None:
    """Serve until standard input ends."""
    connection = await Connection.open(url, name="host", timeout_seconds=CONNECT_SECONDS_MAX)
    log = JetStreamEventLog(connection, workspace)
    host = CustomerHost(log, owns=lambda _root: True, clock=SystemClock())
    await host.start()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies = await host.execute(decode_commands(await read_frame(reader)))
            writer.write(frame(encode_replies(replies)))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
