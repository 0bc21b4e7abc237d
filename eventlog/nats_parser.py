"""A parser of what a NATS server sends that no publisher can break with the bytes of a subject.

The server stores and delivers subjects with carriage returns, vertical tabs and bytes that are not
UTF-8. nats-py's own parser ends its read loop over each, for ever, since a consumer delivers the
message again.
"""

from __future__ import annotations

from nats.protocol.parser import Parser

LINE_END = b"\r\n"
_MESSAGES = frozenset({b"MSG", b"HMSG"})


class SturdyParser(Parser):
    """Reads a message's line by its spaces from the end, so that its subject may hold anything."""

    def reset(self) -> None:
        """Begin with nothing, as on a new connection."""
        super().reset()
        self._bytes_wanted = 0
        """How many have to be here before the message that they begin with is whole."""

    async def parse(self, data: bytes = b"") -> None:
        """Take bytes from the server and hand out every message that is complete."""
        self.buf += data
        if len(self.buf) < self._bytes_wanted:
            return
        block = bytes(self.buf)
        self.buf.clear()
        self._bytes_wanted = at = 0
        while (line_end := block.find(LINE_END, at)) >= 0:
            words = block[at:line_end].split(b" ")
            begin = line_end + len(LINE_END)
            if words[0] not in _MESSAGES:
                self.buf += block[at:begin]
                await super().parse()
                at = begin
                continue
            end = begin + int(words[-1])
            if len(block) < end + len(LINE_END):
                self._bytes_wanted = end + len(LINE_END) - at
                break
            await self._hand_out(words, block[begin:end])
            at = end + len(LINE_END)
        self.buf += block[at:]

    async def _hand_out(self, words: list[bytes], content: bytes) -> None:
        # The server writes no spaces into a subject: it ends one at a space when it is published.
        kind, subject, sid, *more = words
        headers = None
        reply = more[0] if len(more) > (kind == b"HMSG") + 1 else b""
        if kind == b"HMSG" and (size := int(more[-2])):
            headers, content = content[:size], content[size:]
        await self.nc._process_msg(int(sid), subject, reply, content, headers)  # noqa: SLF001  # what nats-py's own parser calls
