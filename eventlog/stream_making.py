"""Finds a stream or makes it, on a server that may be starting, or a cluster that is changing.

A cluster that has no leader to ask drops a request without a word, and one that gave no answer in
time may still do what it was asked. So nobody is told that a stream was not made: it is looked for,
asked for again with the same settings, and looked for, until the time is up.
"""

from __future__ import annotations

from eventlog.asking_again import until_answered
from eventlog.errors import LogUnavailable, UnsafeStream
from eventlog.jetstream_api import (
    NO_SUITABLE_PEERS,
    NOT_CLUSTERED,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    ApiError,
    JetStreamApi,
    Json,
)

MAKE_SECONDS_MAX = 30.0
"""How long a cluster may take to come together: two elections, and what goes before them."""


async def find_or_make(
    api: JetStreamApi, config: Json, *, timeout_seconds: float = MAKE_SECONDS_MAX
) -> Json:
    """Give what the server says of a stream, made with these settings where there is none.

    Whoever asks compares the settings of one that is there. Raises `LogUnavailable`, and
    `UnsafeStream` where there are too few servers for its replicas.
    """
    name = config["name"]

    async def ask(seconds: float) -> Json:
        try:
            return await api.call(f"STREAM.INFO.{name}", timeout_seconds=seconds)
        except ApiError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
        try:
            return await api.call(f"STREAM.CREATE.{name}", config, timeout_seconds=seconds)
        except ApiError as error:
            if error.code != STREAM_NAME_IN_USE:
                raise
        raise LogUnavailable(f"somebody else is making stream {name}")

    try:
        return await until_answered(api.connection, ask, timeout_seconds=timeout_seconds)
    except ApiError as error:
        if error.code in (NO_SUITABLE_PEERS, NOT_CLUSTERED):
            raise UnsafeStream(
                f"stream {name}: it needs a cluster of {config['num_replicas']} servers that live"
            ) from None
        raise
