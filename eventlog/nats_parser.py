"""A parser of what a NATS server sends that no publisher can break with the bytes of a subject.

The server stores and delivers subjects with carriage returns, vertical tabs and bytes that are not
UTF-8. nats-py's own parser ends its read loop over each, for ever, since a consumer delivers the
message again.
"""

from __future__ import annotations

from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

LINE_END = b"\r\n"


class SturdyParser(Parser):
    """Reads a message's line by its spaces from the end, so that its subject may hold anything."""

    async def parse(self, data: bytes = b"") -> None:
        """Take bytes from the server and hand out every message that is complete."""
        self.buf.extend(data)
        while self.buf:
            if self.state == AWAITING_MSG_PAYLOAD:
                if len(self.buf) < self.needed + len(LINE_END):
                    return
                await self._hand_out()
                continue
            end = self.buf.find(LINE_END) + len(LINE_END)
            if end < len(LINE_END):
                return
            line = bytes(self.buf[:end])
            if line.startswith((b"MSG ", b"HMSG ")):
                del self.buf[:end]
                self._begin_message(line)
            else:
                rest = bytes(self.buf[end:])
                del self.buf[end:]
                await super().parse()
                self.buf.extend(rest)

    def _begin_message(self, line: bytes) -> None:
        kind, *words = line[: -len(LINE_END)].split(b" ")
        sizes = 2 if kind == b"HMSG" else 1
        self.needed = int(words[-1])
        self.header_needed = int(words[-2]) if kind == b"HMSG" else 0
        # The server writes no spaces into a subject: it ends one at a space when it is published.
        subject, sid, *reply = words[:-sizes]
        self.msg_arg = {"subject": subject, "sid": int(sid), "reply": b"".join(reply)}
        self.state = AWAITING_MSG_PAYLOAD

    async def _hand_out(self) -> None:
        headers = bytes(self.buf[: self.header_needed]) or None
        payload = bytes(self.buf[self.header_needed : self.needed])
        del self.buf[: self.needed + len(LINE_END)]
        self.header_needed = 0
        self.state = AWAITING_CONTROL_LINE
        message = self.msg_arg
        await self.nc._process_msg(  # noqa: SLF001  # what nats-py's own parser calls
            message["sid"], message["subject"], message["reply"], payload, headers
        )
