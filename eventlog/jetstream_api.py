"""JetStream's JSON API, as far as the log needs it: requests, errors, and messages by sequence."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from eventlog.connection import Connection
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.wire import parse_header_block

API_TIMEOUT_SECONDS = 5.0

NO_SUITABLE_PEERS = 10005
STREAM_NOT_FOUND = 10059
STREAM_NAME_IN_USE = 10058
MESSAGE_NOT_FOUND = 10037
NOT_CLUSTERED = 10074

Json = dict[str, Any]  # Any: what the server answers; each reader checks what it takes


class ApiError(LogUnavailable):
    """The server answered a request with an error of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered with error {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the stream's leader holds it."""

    subject: str
    revision: int
    headers: Mapping[str, str]
    body: bytes


class JetStreamApi:
    """Ask the JetStream of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def call(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = API_TIMEOUT_SECONDS,
    ) -> Json:
        """Call `$JS.API.<name>`; `ApiError` for the server's errors, else `LogUnavailable`."""
        body = b"" if payload is None else orjson.dumps(payload)
        answer = await self.connection.request(
            f"$JS.API.{name}", body, timeout_seconds=timeout_seconds
        )
        return checked(answer.data)

    async def message(
        self,
        stream_name: str,
        query: Mapping[str, Any],
        *,
        timeout_seconds: float = API_TIMEOUT_SECONDS,
    ) -> StoredMessage | None:
        """Get one message from the stream's leader; None if there is none."""
        try:
            answer = await self.call(
                f"STREAM.MSG.GET.{stream_name}", query, timeout_seconds=timeout_seconds
            )
        except ApiError as error:
            if error.code == MESSAGE_NOT_FOUND:
                return None
            raise
        message = answer["message"]
        return StoredMessage(
            message["subject"],
            message["seq"],
            parse_header_block(b64decode(message.get("hdrs", ""))),
            b64decode(message.get("data", "")),
        )


def checked(data: bytes) -> Json:
    """Read an answer; raise `ApiError` where it is one."""
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise LogDamaged("the server's answer is not JSON") from None
    if not isinstance(answer, dict):
        raise LogDamaged("the server's answer is not a JSON object")
    if "error" in answer:
        error = answer["error"]
        raise ApiError(int(error.get("err_code") or error.get("code") or 0))
    return answer
