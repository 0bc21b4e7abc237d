"""Direct get: many stored messages for one request, from whichever replica answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from eventlog.asking_again import until_answered
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.incoming import Raw
from eventlog.nats_client import Received
from eventlog.wire import Outbound

READ_TIMEOUT_SECONDS = 5.0
BATCH_BYTES_MAX = 8_388_608
SUBJECTS_PER_REQUEST_MAX = 1_000

_END_OF_BATCH = "204"
_NOT_FOUND = "404"


async def direct_get(
    connection: Connection,
    stream_name: str,
    query: Mapping[str, Any],  # Any: the server's JSON
) -> tuple[list[Raw], int]:
    """Make one direct get; give what it found and how many more there are."""

    async def ask(timeout_seconds: float) -> tuple[list[Raw], int]:
        return await _get_once(connection, stream_name, query, timeout_seconds=timeout_seconds)

    return await until_answered(connection, ask, timeout_seconds=READ_TIMEOUT_SECONDS)


async def _get_once(
    connection: Connection,
    stream_name: str,
    query: Mapping[str, Any],
    *,
    timeout_seconds: float,
) -> tuple[list[Raw], int]:
    *messages, end = await connection.request_all(
        [Outbound(f"$JS.API.DIRECT.GET.{stream_name}", {}, orjson.dumps(query))],
        is_last=_ends,
        timeout_seconds=timeout_seconds,
    )
    headers = end.headers or {}
    if headers.get("Status") == _NOT_FOUND:
        return [], 0
    pending = int(headers.get("Nats-Num-Pending", 0))
    if headers.get("Status") != _END_OF_BATCH or (pending and not messages):
        raise LogUnavailable("a direct get ended before its time")
    return [_raw(message) for message in messages], pending


async def last_messages(
    connection: Connection, stream_name: str, subjects: Sequence[str]
) -> list[Raw]:
    """Read the last message of each of these distinct subjects that has one."""
    if len(subjects) == 1:
        return await _last_message(connection, stream_name, subjects[0])
    waiting, found = list(subjects), []
    while waiting:
        asked, waiting = waiting[:SUBJECTS_PER_REQUEST_MAX], waiting[SUBJECTS_PER_REQUEST_MAX:]
        query = {"multi_last": asked, "batch": len(asked), "max_bytes": BATCH_BYTES_MAX}
        messages, pending = await direct_get(connection, stream_name, query)
        found += messages
        if pending:
            given = {message.subject for message in messages}
            waiting += [subject for subject in asked if subject not in given]
    return found


async def _last_message(connection: Connection, stream_name: str, subject: str) -> list[Raw]:
    async def ask(timeout_seconds: float) -> Raw | None:
        return await ask_last_message(
            connection, stream_name, subject, timeout_seconds=timeout_seconds
        )

    found = await until_answered(connection, ask, timeout_seconds=READ_TIMEOUT_SECONDS)
    return [] if found is None else [found]


async def ask_last_message(
    connection: Connection, stream_name: str, subject: str, *, timeout_seconds: float
) -> Raw | None:
    """Ask once for the last message of a subject, which may be a wildcard.

    It comes without an end after it, so in half the time that a batch of one takes.
    """
    answer = await connection.request(
        f"$JS.API.DIRECT.GET.{stream_name}",
        orjson.dumps({"last_by_subj": subject}),
        timeout_seconds=timeout_seconds,
    )
    status = (answer.headers or {}).get("Status")
    if status == _NOT_FOUND:
        return None
    if status is not None:
        raise LogUnavailable("a direct get was not answered")
    return _raw(answer)


def _raw(message: Received) -> Raw:
    headers = message.headers or {}
    return Raw(
        headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers=headers, body=message.data
    )


def _ends(message: Received) -> bool:
    return not message.data and "Status" in (message.headers or {})
