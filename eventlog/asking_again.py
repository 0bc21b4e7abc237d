"""Asks again what only reads, while no server answers it: in an election, a restart, a reconnect.

What writes must not go this way: whether a write was done is settled by the log (`appender.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import ApiError

TRY_SECONDS_MIN = 2.0
TRY_SECONDS_MAX = 5.0
"""How long the first try may take, and how long a later one, which takes twice as long as the one
before: what was asked while a cluster elected a leader is lost without a word."""

PAUSE_SECONDS_MIN = 0.01
PAUSE_SECONDS_MAX = 0.25

_NOT_NOW = frozenset({10005, 10008, 10009})
"""The cluster has no leader for it or no peers yet, or who was asked has not heard of them."""

Answer = TypeVar("Answer")


async def until_answered(
    connection: Connection, ask: Callable[[float], Awaitable[Answer]], *, timeout_seconds: float
) -> Answer:
    """Ask, with the seconds that one try may take, until there is an answer or the time is up.

    Raises what asking raised last: `ApiError` at once, where asking again would not help.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    pause, patience = PAUSE_SECONDS_MIN, TRY_SECONDS_MIN
    while True:
        try:
            return await ask(max(min(deadline - loop.time(), patience), 0))
        except LogUnavailable as error:
            remaining = deadline - loop.time()
            is_final = isinstance(error, ApiError) and error.code not in _NOT_NOW
            if is_final or remaining <= 0:
                raise
        if not connection.is_connected:
            await connection.wait_connected(timeout_seconds=remaining)
            continue
        # Those who met nobody must not come back in step.
        await asyncio.sleep(min(pause * (0.5 + random.random()), remaining))  # noqa: S311  # not a secret
        pause = min(pause * 2, PAUSE_SECONDS_MAX)
        patience = min(patience * 2, TRY_SECONDS_MAX)
