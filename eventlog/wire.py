"""The bytes of a NATS publish, written ahead and in one piece; and headers read back from bytes.

`connection.py` sends them. Subjects and headers are checked here, since no client does it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_SUBJECT = re.compile(r"[!-~]+")


class MessageTooLarge(ValueError):
    """A message that the server would close the connection for."""


class Outbound(NamedTuple):
    """A message to be sent; `lines` are headers that were written ahead, safely."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    lines: bytes = b""


def encode(message: Outbound, reply: str = "", *, bytes_max: int) -> bytes:
    """Write a PUB or HPUB; `ValueError` for what would break the protocol or the server's limit."""
    if not _SUBJECT.fullmatch(message.subject):
        raise ValueError("a subject is printable ASCII without spaces")
    address = f"{message.subject} {reply}" if reply else message.subject
    headers = b""
    if message.headers or message.lines:
        headers = header_block(message.headers, lines=message.lines)
    size = len(headers) + len(message.body)
    if size > bytes_max:
        raise MessageTooLarge(f"a message of {size} bytes is over the server's limit, {bytes_max}")
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (address.encode(), len(message.body), message.body)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (
        address.encode(),
        len(headers),
        size,
        headers,
        message.body,
    )


def header_block(headers: Mapping[str, str], *, lines: bytes = b"") -> bytes:
    """Write headers after lines that are written; `ValueError` for one that would begin another."""
    block = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if block.count("\n") != len(headers) or block.count("\r") != len(headers):
        raise ValueError("a header holds a line break")
    return b"NATS/1.0\r\n%b%b\r\n" % (lines, block.encode())


def parse_header_block(block: bytes) -> dict[str, str]:
    """Read headers as they are stored, after the line that says so."""
    return parse_header_lines(block.partition(b"\r\n")[2])


def parse_header_lines(raw: bytes) -> dict[str, str]:
    """Read lines of `name: value`; one without a colon is skipped."""
    headers = {}
    for line in raw.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers
