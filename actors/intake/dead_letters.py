"""Dead letters on JetStream: what could not be used, with its reason, for seven days at most.

The worker puts them; `koseki dead-letters` lists, shows and sends them again; of one that was sent
again a mark says so, beside it and as long as it. Subject and headers hold nothing of a person. The
message itself lies in the body, after one line of JSON that holds its subject and headers, both
sealed under the key of its day (`letter_seal.py`).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime

import orjson

from actors.intake.api import (
    NANOSECONDS,
    NO_MESSAGE_FOUND,
    ApiRefused,
    JsonObject,
    call_api,
    ensure_stream,
    store,
)
from actors.intake.letter_seal import SEAL_BYTES_MAX, LetterSeal
from actors.intake.port import DeadLetter, RejectedMessage
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.keys.port import KeyStore

DEAD_LETTER_AGE_SECONDS_MAX = 7 * 86_400
DEAD_LETTERS_BYTES_MAX = 4 * 1_073_741_824
"""When they are full, intake waits: nothing is dropped to make room."""
DUPLICATE_WINDOW_SECONDS = 120
LINE_BYTES_MAX = 65_536
"""The line before the data; headers that would make it longer are not kept."""
OWN_HEADERS_BYTES_MAX = 512
LIST_MAX = 1_000

REASON_HEADER = "koseki-reason"
UNNAMED_REASON = "UNNAMED_REASON"
MARK = "replayed_"
"""Begins the last word of a mark's subject; the letter's number ends it. No reason begins so."""
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class JetStreamDeadLetters:
    """The dead letters of one workspace. Implements `DeadLetters`."""

    def __init__(
        self,
        connection: Connection,
        *,
        workspace: str,
        keys: KeyStore,
        kept_seconds: float = DEAD_LETTER_AGE_SECONDS_MAX,
        replicas: int = 1,
    ) -> None:
        self._connection = connection
        self._seal = LetterSeal(keys, kept_seconds=kept_seconds)
        self._kept_seconds = kept_seconds
        self._stream = f"koseki-{workspace}-dead-letters"
        self._prefix = f"koseki.{workspace}.dead"
        self._replicas = replicas

    async def open(self) -> None:
        """Make the stream if it is not there. Raises `LogUnavailable`."""
        await ensure_stream(
            self._connection,
            {
                "name": self._stream,
                "subjects": [f"{self._prefix}.*"],
                "storage": "file",
                "retention": "limits",
                "discard": "new",
                "max_age": int(self._kept_seconds * NANOSECONDS),
                "max_bytes": DEAD_LETTERS_BYTES_MAX,
                "duplicate_window": int(
                    min(DUPLICATE_WINDOW_SECONDS, self._kept_seconds) * NANOSECONDS
                ),
                "num_replicas": self._replicas,
                "allow_direct": True,
            },
        )

    async def put(self, message: RejectedMessage) -> None:
        """Keep a message. Raises `LogUnavailable`, also when the stream is full."""
        reason = message.reason if _REASON.fullmatch(message.reason) else UNNAMED_REASON
        headers = {REASON_HEADER: reason, "Nats-Msg-Id": message.origin}
        subject = f"{self._prefix}.{reason.lower()}"
        bytes_max = self._connection.payload_bytes_max - OWN_HEADERS_BYTES_MAX - SEAL_BYTES_MAX
        sealed = await self._seal.seal(_body(message, bytes_max))
        try:
            await store(self._connection, subject, sealed, headers=headers)
        except ApiRefused as error:
            raise LogUnavailable(f"dead letters are not taken in (error {error.code})") from None

    async def list(
        self, *, after_sequence: int = 0, limit: int = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        """Give dead letters in the order in which they came, `LIST_MAX` at most."""
        token = reason.lower() if reason and _REASON.fullmatch(reason) else "*"
        found: list[DeadLetter] = []
        while len(found) < min(limit, LIST_MAX):
            stored = await self._read(
                {"seq": after_sequence + 1, "next_by_subj": f"{self._prefix}.{token}"}
            )
            if stored is None:
                break
            after_sequence = stored["seq"]
            letter = await self._opened(stored)
            if letter is not None:
                found.append(letter)
        return found

    async def is_replayed(self, sequence: int) -> bool:
        """Say whether a letter was sent again. Raises `LogUnavailable`."""
        return await self._read({"last_by_subj": f"{self._prefix}.{MARK}{sequence}"}) is not None

    async def mark_replayed(self, letter: DeadLetter) -> None:
        """Note that a letter was sent again, once it is on disk there. Raises `LogUnavailable`."""
        subject = f"{self._prefix}.{MARK}{letter.sequence}"
        try:
            await store(self._connection, subject, b"", headers={})
        except ApiRefused as error:
            raise LogUnavailable(f"dead letters are not taken in (error {error.code})") from None

    async def get(self, sequence: int) -> DeadLetter | None:
        """Give one dead letter, if it is still kept."""
        stored = await self._read({"seq": sequence}) if sequence > 0 else None
        return None if stored is None else await self._opened(stored)

    async def _opened(self, stored: JsonObject) -> DeadLetter | None:
        """Open a letter; None for a mark, and for one whose day is over."""
        if _reason_of(stored).startswith(MARK.upper()):
            return None
        opened = await self._seal.open(b64decode(stored["data"]))
        return None if opened is None else _letter(stored, opened)

    async def _read(self, which: JsonObject) -> JsonObject | None:
        try:
            answer = await call_api(self._connection, f"STREAM.MSG.GET.{self._stream}", which)
        except ApiRefused as error:
            if error.code == NO_MESSAGE_FOUND:
                return None
            raise
        message: JsonObject = answer["message"]
        return message


async def send_again(connection: Connection, letter: DeadLetter) -> None:
    """Send a letter to intake as it came; when this returns, it is on disk there.

    Raises `LogUnavailable`, and `ApiRefused` where no stream takes its subject.
    """
    headers = {n: v for n, v in letter.headers.items() if not n.lower().startswith("nats-")}
    await store(connection, letter.subject, letter.data, headers=headers)


def _reason_of(stored: JsonObject) -> str:
    return str(stored["subject"]).rpartition(".")[2].upper()


def _body(message: RejectedMessage, bytes_max: int) -> bytes:
    """Write the line and the data, cut to what one message of NATS holds."""
    line = _line(message, message.headers)
    if len(line) > LINE_BYTES_MAX:
        line = _line(message, {})
    return line + message.data[: max(0, bytes_max - len(line))]


def _line(message: RejectedMessage, headers: Mapping[str, str]) -> bytes:
    line = {
        "subject": message.subject,
        "headers": dict(headers),
        "received_at": message.received_at.isoformat(),
        "data_bytes": len(message.data),
    }
    return orjson.dumps(line) + b"\n"


def _letter(stored: JsonObject, opened: bytes) -> DeadLetter:
    line, _, data = opened.partition(b"\n")
    origin = orjson.loads(line)
    return DeadLetter(
        sequence=stored["seq"],
        reason=_reason_of(stored),
        subject=origin["subject"],
        headers=origin["headers"],
        data=data,
        data_bytes=origin["data_bytes"],
        is_truncated=len(data) < origin["data_bytes"],
        received_at=datetime.fromisoformat(origin["received_at"]),
        stored_at=datetime.fromisoformat(stored["time"]),
    )
