"""What is said of an event beside its body: headers with CloudEvents names, and the digests (R3).

An envelope becomes headers and is read back from them without loss. The digest of an event covers
its subject, our headers in the one order of `HEADERS` and its body as stored; headers that the
server or the transport adds (`Nats-*`) are not ours and stay outside.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import orjson

from domain.ids import CommandId, DecisionId, EventId

HEADERS = (
    "ce-specversion",
    "ce-id",
    "ce-type",
    "ce-source",
    "ce-time",
    "ce-recordedtime",
    "ce-causationid",
    "ce-correlationid",
    "ce-authid",
    "koseki-version",
    "koseki-previous",
    "koseki-keyid",
    "koseki-decision",
    "koseki-part",
)
"""Our headers, in the order in which digests take them. Appending here is a new digest."""

SPEC_VERSION = "1.0"
DIGEST_BYTES = 32
NO_KEY = "none"
"""The key id of a body that is not sealed."""

_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) != "%")
_ABSENT = 0xFFFFFFFF
_PLAIN = re.compile(r"[!-$&-~]*")
_NAMES_BLOCK = "".join(f"{chr(0) * 3}{chr(len(name))}{name}" for name in HEADERS)
_LINES = "".join(f"{name}: %s\r\n" for name in HEADERS)
_values_of = itemgetter(*HEADERS)
_LENGTHS = struct.Struct(f">{len(HEADERS) + 2}I")


class EnvelopeUnreadable(ValueError):
    """Headers that are not those of an event of ours."""


class Envelope(NamedTuple):
    """Everything about an event but its place in the log and its body."""

    event_id: EventId
    event_type: str
    workspace: str
    happened_at: datetime
    recorded_at: datetime
    command_id: CommandId
    correlation_id: str
    auth_id: str
    version: int
    previous: bytes
    key_id: str
    decision_id: DecisionId
    part: int
    parts: int


_TEXTS = (
    "event_id",
    "event_type",
    "workspace",
    "command_id",
    "correlation_id",
    "auth_id",
    "key_id",
    "decision_id",
)
_texts_of = itemgetter(*map(Envelope._fields.index, _TEXTS))


def header_values(envelope: Envelope) -> tuple[str, ...]:
    """Write an envelope as the values of `HEADERS`, in their order."""
    e = envelope
    # Nearly every text is safe as it is: one look at all of them takes an eighth of eight looks.
    if not _PLAIN.fullmatch("".join(_texts_of(e))):
        safe: dict[str, Any] = dict(zip(_TEXTS, map(encode_text, _texts_of(e)), strict=True))
        e = e._replace(**safe)  # Any: each of its own kind of text, as before
    return (
        SPEC_VERSION,
        e.event_id,
        e.event_type,
        f"koseki/{e.workspace}",
        _encode_time(e.happened_at),
        _encode_time(e.recorded_at),
        e.command_id,
        e.correlation_id,
        e.auth_id,
        str(e.version),
        e.previous.hex(),
        e.key_id,
        e.decision_id,
        f"{e.part}/{e.parts}",
    )


def header_lines(values: tuple[str, ...]) -> bytes:
    """Write the values of `HEADERS` as they go over the wire."""
    return (_LINES % values).encode("ascii")


def build_headers(envelope: Envelope) -> dict[str, str]:
    """Write an envelope as headers, in the order of `HEADERS`."""
    return dict(zip(HEADERS, header_values(envelope), strict=True))


def parse_headers(headers: Mapping[str, str]) -> Envelope:
    """Read an envelope back, or raise `EnvelopeUnreadable`, which never holds a value."""
    try:
        _require_version(headers["ce-specversion"])
        part, _, parts = headers["koseki-part"].partition("/")
        return Envelope(
            event_id=EventId(decode_text(headers["ce-id"])),
            event_type=decode_text(headers["ce-type"]),
            workspace=decode_text(headers["ce-source"].removeprefix("koseki/")),
            happened_at=_decode_time(headers["ce-time"]),
            recorded_at=_decode_time(headers["ce-recordedtime"]),
            command_id=CommandId(decode_text(headers["ce-causationid"])),
            correlation_id=decode_text(headers["ce-correlationid"]),
            auth_id=decode_text(headers["ce-authid"]),
            version=int(headers["koseki-version"]),
            previous=_decode_digest(headers["koseki-previous"]),
            key_id=decode_text(headers["koseki-keyid"]),
            decision_id=DecisionId(decode_text(headers["koseki-decision"])),
            part=int(part),
            parts=int(parts),
        )
    except KeyError as error:
        raise EnvelopeUnreadable(f"header {error.args[0]} is missing") from None
    except EnvelopeUnreadable:
        raise
    except ValueError:
        raise EnvelopeUnreadable("a header does not have its form") from None


def event_digest(subject: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Digest an event: lengths, subject, header names, header values, body, by SHA-256.

    The lengths stand first (of texts in characters, of the body in bytes), so no two different
    events give the same bytes; a header that is missing has a length that none can have.
    """
    try:
        return digest_of_values(subject, _values_of(headers), body)
    except KeyError:
        found = [headers.get(name) for name in HEADERS]
        values = tuple(value or "" for value in found)
        lengths = [_ABSENT if value is None else len(value) for value in found]
        return _digest(subject, values, body, lengths=lengths)


def digest_of_values(subject: str, values: tuple[str, ...], body: bytes) -> bytes:
    """Digest an event that has every header, given their values in the order of `HEADERS`."""
    return _digest(subject, values, body, lengths=map(len, values))


def _digest(subject: str, values: tuple[str, ...], body: bytes, *, lengths: Iterable[int]) -> bytes:
    packed = _LENGTHS.pack(len(subject), *lengths, len(body))
    texts = f"{subject}{_NAMES_BLOCK}{''.join(values)}"
    return sha256(b"".join((packed, texts.encode(), body))).digest()


def extend_log_digest(log_digest: bytes, revision: int, digest: bytes) -> bytes:
    """Give D(r) from D(r-1), r and the digest of event r; D(0) is 32 zero bytes."""
    return sha256(log_digest + revision.to_bytes(8, "big") + digest).digest()


def encode_text(text: str) -> str:
    """Make any text safe in a header: spaces, % and all but printable ASCII are percent-coded."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_SAFE, errors="surrogatepass")


def decode_text(value: str) -> str:
    """Undo `encode_text`."""
    return unquote(value, errors="surrogatepass") if "%" in value else value


def _require_version(spec_version: str) -> None:
    if spec_version != SPEC_VERSION:
        raise EnvelopeUnreadable("unknown ce-specversion")


def _encode_time(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("an event's times must know their zone")
    # A fifth of what `isoformat` takes; it leaves out a fraction of zero.
    text = orjson.dumps(time, option=orjson.OPT_UTC_Z)[1:-1].decode()
    if text[-1] != "Z":
        return _encode_time(time.astimezone(UTC))
    return text if time.microsecond else f"{text[:-1]}.000000Z"


def _decode_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is not UTC:
        raise EnvelopeUnreadable("a time is not in UTC")
    return time


def _decode_digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_BYTES:
        raise EnvelopeUnreadable("koseki-previous is not a digest")
    return digest
