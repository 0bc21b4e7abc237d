"""Bytes that a client of NATS cannot read must not stop intake."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from tests.intake.conditions import until
from tests.intake.fakes import RecordingRouter, shape
from tests.intake.messages import event, track
from tests.intake.running import Intake


def with_headers(block: bytes) -> bytes:
    return b"HPUB koseki.demo.ingest.shop %d %d\r\n%b{}\r\n" % (len(block), len(block) + 2, block)


HOSTILE = [
    b"PUB koseki.demo.ingest.sh\xff\xfe 2\r\n{}\r\n",
    b"PUB koseki.demo.ingest.sh\x0bop 2\r\n{}\r\n",
    b"PUB koseki.demo.ingest.sh\x0cop 2\r\n{}\r\n",
    b"PUB koseki.demo.ingest.sh\rop 2\r\n{}\r\n",
    b"PUB koseki.demo.ingest.a\x00b 2\r\n{}\r\n",
    b"HPUB koseki.demo.ingest.shop 8 10\r\nNATS/1.0{}\r\n",
    b"HPUB koseki.demo.ingest.shop 4 6\r\nXXXX{}\r\n",
    with_headers(b"NATS/1.0 \xff\xff\xff \xff\xff\r\n\r\n"),
    with_headers(b"NATS/1.0 404 x\r\n\r\n"),
    with_headers(b"NATS/1.0\r\n\xff: \xff\xfe\r\n\r\n"),
    with_headers(b"NATS/1.0\r\nNats-X\r\n\r\n"),
    with_headers(b"NATS/1.0\r\nStatus: 100\r\n\r\n"),
    with_headers(b"NATS/1.0 \r\n"),
    with_headers(b"NATS/1.0 \xe2\r\n\r\n"),
    with_headers(b"NATS/1.0\r\n: \r\n=?utf-8?q?=ff?=: x\r\n\r\n"),
]


async def send_raw(url: str, block: bytes) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + block + b"PING\r\n")
    await reader.readline()
    writer.close()


async def test_hostile_bytes_stop_nothing(intake: Intake) -> None:
    router = RecordingRouter()
    async with intake.working(router):
        for number, block in enumerate(HOSTILE, start=1):
            await send_raw(intake.server.url, block)
            await intake.publish(event(track(messageId=f"after {number}")))
            await until(intake.is_drained)
            assert shape(router.commands[-1])[1] == [f"after {number}"]
    assert intake.connection.rebuilds == 0
    assert len(await intake.dead_letters.list()) == len(HOSTILE)
