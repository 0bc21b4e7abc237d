"""What a server sends is handed out whole and in order, however it comes and whatever it holds."""

from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.nats_parser import MessageReader


class Handed(NamedTuple):
    """What is handed out of a message."""

    sid: int
    subject: bytes
    reply: bytes
    headers: bytes
    body: bytes


def sent(message: Handed) -> bytes:
    words = [message.subject, b"%d" % message.sid, *([message.reply] if message.reply else [])]
    headers = message.headers
    sizes = [b"%d" % len(headers)] if headers else []
    line = [b"HMSG" if headers else b"MSG", *words, *sizes, b"%d" % len(headers + message.body)]
    return b" ".join(line) + b"\r\n" + headers + message.body + b"\r\n"


# Whatever a publisher can put there: a subject ends at a space or at the end of its line.
WORDS = st.binary(min_size=1, max_size=12).filter(
    lambda word: b" " not in word and b"\r\n" not in word and not word.endswith(b"\r")
)
HEADERS = st.binary(max_size=30).map(lambda raw: b"NATS/1.0\r\n" + raw + b"\r\n\r\n")
MESSAGES = st.builds(
    Handed,
    sid=st.integers(1, 999),
    subject=WORDS,
    reply=st.just(b"") | WORDS,
    headers=st.just(b"") | HEADERS,
    body=st.binary(max_size=60),
)
PING = b"PING\r\n"


@given(st.lists(MESSAGES | st.just(PING), max_size=8), st.lists(st.integers(1, 40), max_size=12))
@example([Handed(1, b"a\rb\x0b\xff", b"", b"", b"MSG a 1 0\r\n\r\n"), PING], [3])
@example([Handed(1, b"large", b"to", b"NATS/1.0\r\n\r\n", b"x" * 200_000)] * 2, [65_536] * 4)
def test_messages_are_handed_out_however_they_are_cut(
    told: list[Handed | bytes], sizes: list[int]
) -> None:
    stream = b"".join(one if isinstance(one, bytes) else sent(one) for one in told)
    handed: list[Handed] = []
    reader = MessageReader(lambda *message: handed.append(Handed(*message)))
    others, at = b"", 0
    for size in [*sizes, len(stream)]:
        others += reader.read(stream[at : at + size])
        at += size
    assert handed == [one for one in told if not isinstance(one, bytes)]
    assert others == PING * told.count(PING)
