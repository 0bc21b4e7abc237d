"""The bytes of a NATS publish, written ahead and in one piece; and headers read back from bytes.

`connection.py` sends them. Subjects and headers are checked here, since no client does it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

HEADER_LINE = b"NATS/1.0"
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
    subject, headers, body, lines = message
    if not _SUBJECT.fullmatch(subject):
        raise ValueError("a subject is printable ASCII without spaces")
    address = f"{subject} {reply}" if reply else subject
    block = header_block(headers, lines=lines) if headers or lines else b""
    size = len(block) + len(body)
    if size > bytes_max:
        raise MessageTooLarge(f"a message of {size} bytes is over the server's limit, {bytes_max}")
    if block:
        return b"".join((f"HPUB {address} {len(block)} {size}\r\n".encode(), block, body, b"\r\n"))
    return b"".join((f"PUB {address} {size}\r\n".encode(), body, b"\r\n"))


def header_block(headers: Mapping[str, str], *, lines: bytes = b"") -> bytes:
    """Write headers, then lines that are written; `ValueError` for one that would begin another."""
    if not headers:
        return b"".join((b"NATS/1.0\r\n", lines, b"\r\n"))
    block = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if block.count("\n") != len(headers) or block.count("\r") != len(headers):
        raise ValueError("a header holds a line break")
    return b"".join((b"NATS/1.0\r\n", block.encode(), lines, b"\r\n"))


def parse_message_headers(block: bytes) -> dict[str, str] | None:
    """Read headers as they came with a message; None for a block that is not one.

    What the server says in the first line is `Status`, three digits, and `Description`.
    """
    first, _, lines = block.partition(b"\r\n")
    if not block.endswith(b"\r\n") or not first.startswith(HEADER_LINE):
        return None
    headers = parse_header_lines(lines)
    if len(first) > len(HEADER_LINE):
        status, _, text = (
            first[len(HEADER_LINE) :].decode("utf-8", "replace").strip().partition(" ")
        )
        said = {"Status": status} if status.isdecimal() else {}
        headers = {**said, **({"Description": text} if text else {}), **headers}
    return headers


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
