"""Secure delete: stored messages are overwritten on the server's disk, by sequence.

A plain delete, a purge by subject, and a newer message on the same subject leave the bytes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from eventlog.asking_again import until_answered
from eventlog.jetstream_api import ApiError, JetStreamApi

ERASURES_MAX = 32
"""Erasures that are on their way at once; the server carries out one after another."""

ERASE_SECONDS_MAX = 30.0
_GONE_ALREADY = 10043
_NOT_DELETED = 10057


async def erase(api: JetStreamApi, stream_name: str, sequences: Iterable[int]) -> None:
    """Overwrite messages; what is gone already may be named. Raises `LogUnavailable`."""

    async def erase_one(sequence: int) -> None:
        async def ask(timeout_seconds: float) -> None:
            await erase_once(api, stream_name, sequence, timeout_seconds=timeout_seconds)

        await until_answered(api.connection, ask, timeout_seconds=ERASE_SECONDS_MAX)

    await erase_each(sequences, erase_one)


async def erase_each(sequences: Iterable[int], erase_one: Callable[[int], Awaitable[None]]) -> None:
    """Erase messages, so many at once as the server is asked for."""
    places = asyncio.Semaphore(ERASURES_MAX)

    async def erase_in_turn(sequence: int) -> None:
        async with places:
            await erase_one(sequence)

    async with asyncio.TaskGroup() as group:
        for sequence in sequences:
            group.create_task(erase_in_turn(sequence))


async def erase_once(
    api: JetStreamApi, stream_name: str, sequence: int, *, timeout_seconds: float
) -> None:
    """Ask once for a message to be overwritten. Raises `LogUnavailable`."""
    request = {"seq": sequence, "no_erase": False}
    try:
        await api.call(f"STREAM.MSG.DELETE.{stream_name}", request, timeout_seconds=timeout_seconds)
    except ApiError as error:
        # The server gives one code for what a purge took and for what it will not delete.
        is_gone = error.code == _GONE_ALREADY or (
            error.code == _NOT_DELETED and await api.message(stream_name, {"seq": sequence}) is None
        )
        if not is_gone:
            raise
