from __future__ import annotations

import pytest

from domain.ids import CLOCK_STREAM, WORKSPACE_STREAM, Stream, StreamKind
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.subjects import Subjects
from eventlog.wire import MessageTooLarge, Outbound, encode
from tests.support.events import new_record

SUBJECTS = Subjects("shop_jp")


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        (
            Stream(StreamKind.RECORD, "01890000-0000-7000-8000-000000000001"),
            "koseki.shop_jp.record.01890000-0000-7000-8000-000000000001",
        ),
        (Stream(StreamKind.IDENTIFIER, "p1.aB-_9"), "koseki.shop_jp.identifier.p1.aB-_9"),
        (WORKSPACE_STREAM, "koseki.shop_jp.workspace"),
        (CLOCK_STREAM, "koseki.shop_jp.clock"),
    ],
)
def test_streams_and_subjects_stand_for_each_other(stream: Stream, subject: str) -> None:
    assert SUBJECTS.subject_of(stream) == subject
    assert SUBJECTS.stream_of(subject) == stream


@pytest.mark.parametrize("key", ["", "*", ">", "a.b.c", "a b", "a.b\n", "a", "p1.é", "p1.*"])
@pytest.mark.parametrize("kind", [StreamKind.RECORD, StreamKind.IDENTIFIER])
def test_a_key_that_cannot_stand_in_a_subject_is_refused(kind: StreamKind, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        SUBJECTS.subject_of(Stream(kind, key))


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "a*", "1a", "a" * 65, "a\n"])
def test_a_workspace_that_cannot_stand_in_a_subject_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="workspace"):
        Subjects(name)


@pytest.mark.parametrize("subject", ["koseki.other.clock", "koseki.shop_jp.ingest.a", ""])
def test_subjects_of_others_are_no_streams(subject: str) -> None:
    with pytest.raises(ValueError, match="subject"):
        SUBJECTS.stream_of(subject)


@pytest.mark.parametrize(
    "message",
    [
        Outbound("a b", {}, b""),
        Outbound("a\r\nPUB b 0\r\n", {}, b""),
        Outbound("", {}, b""),
        Outbound("a", {"h": "x\r\ny: z"}, b""),
        Outbound("a", {"h": "x\ny"}, b""),
        Outbound("a", {"h\n": "x"}, b""),
    ],
)
def test_what_would_break_the_protocol_is_not_written(message: Outbound) -> None:
    with pytest.raises(ValueError, match=r"subject|header"):
        encode(message, bytes_max=1_000)


def test_the_limit_counts_headers_and_body() -> None:
    message = Outbound("a", {"h": "x"}, b"12345")
    size = len(b"NATS/1.0\r\nh: x\r\n\r\n12345")
    assert encode(message, bytes_max=size).endswith(b"12345\r\n")
    with pytest.raises(MessageTooLarge):
        encode(message, bytes_max=size - 1)


async def test_a_message_over_the_servers_limit_is_refused_and_the_connection_lives(
    connection: Connection,
) -> None:
    with pytest.raises(MessageTooLarge):
        await connection.publish("koseki.any.ingest.shop", b"x" * 2_000_000)
    with pytest.raises(LogUnavailable):
        await connection.request(f"nobody.{new_record().key}", timeout_seconds=5)
    assert connection.is_connected
