"""A reader of what a NATS server sends that no publisher can break with the bytes of a subject.

The server stores and delivers subjects with carriage returns, vertical tabs and bytes that are not
UTF-8. nats-py's own parser ends its read loop over each, for ever, since a consumer delivers the
message again.
"""

from __future__ import annotations

from collections.abc import Callable

LINE_END = b"\r\n"
_MESSAGES = frozenset({b"MSG", b"HMSG"})

HandOut = Callable[[int, bytes, bytes, bytes, bytes], None]
"""Takes a message: its subscription's number, subject, reply, headers as they came, and body."""


class MessageReader:
    """Reads a message's line by its spaces from the end, so that its subject may hold anything.

    One instance a connection: what it holds is the beginning of what comes next there.
    """

    def __init__(self, hand_out: HandOut) -> None:
        self._hand_out = hand_out
        self._held = bytearray()
        self._bytes_wanted = 0
        """How many have to be here before the message that they begin with is whole."""

    def read(self, data: bytes) -> bytes:
        """Take bytes from the server and hand out every message that is complete.

        Gives the lines that came between messages, which are no message's.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._bytes_wanted:
                return b""
            data = bytes(self._held)
            self._held.clear()
        self._bytes_wanted = at = 0
        others = b""
        while (line_end := data.find(LINE_END, at)) >= 0:
            words = data[at:line_end].split(b" ")
            begin = line_end + len(LINE_END)
            if words[0] not in _MESSAGES:
                others += data[at:begin]
                at = begin
                continue
            end = begin + int(words[-1])
            if len(data) < end + len(LINE_END):
                self._bytes_wanted = end + len(LINE_END) - at
                break
            at = end + len(LINE_END)
            self._part(words, data[begin:end])
        self._held += data[at:]
        return others

    def _part(self, words: list[bytes], content: bytes) -> None:
        # The server writes no spaces into a subject: it ends one at a space when it is published.
        kind, subject, sid, *more = words
        has_headers = kind == b"HMSG"
        size = int(more[-2]) if has_headers else 0
        reply = more[0] if len(more) > has_headers + 1 else b""
        self._hand_out(int(sid), subject, reply, content[:size], content[size:])
