"""JetStream's API as intake needs it: a request, its answer, a stream made or updated.

Used by `jetstream.py` and `dead_letters.py`. "Not now" is `LogUnavailable`; whatever else the API
answers is `ApiRefused` with its error code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eventlog.asking_again import until_answered
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable, UnsafeStream
from eventlog.stream_making import MAKE_SECONDS_MAX

API_TIMEOUT_SECONDS = 5.0
NANOSECONDS = 1_000_000_000

STREAM_NAME_IN_USE = 10058
NO_MESSAGE_FOUND = 10037
STORAGE_EXCEEDED = 10047
SERVER_FAULT = 500
"""From this status on the API says that it cannot now, not that it will not."""

JsonObject = Mapping[str, Any]  # Any: what JetStream's API takes and gives is its own


class NotNow(LogUnavailable):
    """JetStream's API says that it cannot, for the time being."""

    def __init__(self, code: int) -> None:
        super().__init__(f"JetStream cannot answer now (error {code})")
        self.code = code


class ApiRefused(Exception):
    """JetStream's API refused a request for good."""

    def __init__(self, code: int) -> None:
        super().__init__(f"JetStream refused with error {code}")
        self.code = code


async def call_api(
    connection: Connection,
    verb: str,
    body: JsonObject | None = None,
    *,
    timeout_seconds: float = API_TIMEOUT_SECONDS,
) -> JsonObject:
    """Ask JetStream's API. Raises `LogUnavailable` and `ApiRefused`."""
    data = b"" if body is None else json.dumps(body).encode()
    answer = await connection.request(f"$JS.API.{verb}", data, timeout_seconds=timeout_seconds)
    return read_answer(answer.data)


async def store(
    connection: Connection, subject: str, data: bytes, *, headers: Mapping[str, str]
) -> None:
    """Publish into a stream, and wait until it is stored. Raises `LogUnavailable`, `ApiRefused`."""
    answer = await connection.request(
        subject, data, headers=headers, timeout_seconds=API_TIMEOUT_SECONDS
    )
    read_answer(answer.data)


async def ensure_stream(connection: Connection, config: JsonObject) -> None:
    """Make a stream, or bring one that is there to this configuration.

    Asked again while nobody answers, as in a cluster that is coming together. Raises `UnsafeStream`
    where the server's storage is smaller than what the stream is to hold.
    """

    async def call(verb: str, timeout_seconds: float) -> JsonObject:
        name = f"STREAM.{verb}.{config['name']}"
        return await call_api(connection, name, config, timeout_seconds=timeout_seconds)

    async def ask(timeout_seconds: float) -> JsonObject:
        try:
            return await call("CREATE", timeout_seconds)
        except ApiRefused as error:
            if error.code != STREAM_NAME_IN_USE:
                raise
        except NotNow as error:
            if error.code != STORAGE_EXCEEDED:
                raise
            name, wanted = config["name"], config["max_bytes"]
            raise UnsafeStream(
                f"stream {name}: the server's max_file_store has no {wanted:,} bytes left"
            ) from None
        return await call("UPDATE", timeout_seconds)

    await until_answered(connection, ask, timeout_seconds=MAKE_SECONDS_MAX)


def read_answer(data: bytes) -> JsonObject:
    """Read an answer of JetStream. Raises `LogUnavailable` and `ApiRefused`."""
    try:
        answer: dict[str, Any] = json.loads(data)  # Any: JetStream's own JSON
    except ValueError:
        raise LogUnavailable("JetStream gave no answer") from None
    error = answer.get("error")
    if error is None:
        return answer
    if error.get("code", 0) >= SERVER_FAULT:
        raise NotNow(int(error.get("err_code", 0)))
    raise ApiRefused(int(error.get("err_code", 0)))
