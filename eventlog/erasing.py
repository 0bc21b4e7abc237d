"""Secure delete: stored messages are overwritten on the server's disk, by sequence.

A plain delete, a purge by subject, and a newer message on the same subject leave the bytes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from eventlog.jetstream_api import ApiError, JetStreamApi

ERASURES_MAX = 32
"""Erasures that are on their way at once; the server carries out one after another."""

ERASE_SECONDS_MAX = 30.0
_GONE_ALREADY = 10043
_NOT_DELETED = 10057


async def erase(api: JetStreamApi, stream_name: str, sequences: Iterable[int]) -> None:
    """Overwrite messages; what is gone already may be named. Raises `LogUnavailable`."""
    places = asyncio.Semaphore(ERASURES_MAX)

    async def erase_one(sequence: int) -> None:
        async with places:
            await _erase(api, stream_name, sequence)

    async with asyncio.TaskGroup() as group:
        for sequence in sequences:
            group.create_task(erase_one(sequence))


async def _erase(api: JetStreamApi, stream_name: str, sequence: int) -> None:
    request = {"seq": sequence, "no_erase": False}
    try:
        await api.call(
            f"STREAM.MSG.DELETE.{stream_name}", request, timeout_seconds=ERASE_SECONDS_MAX
        )
    except ApiError as error:
        # The server gives one code for what a purge took and for what it will not delete.
        is_gone = error.code == _GONE_ALREADY or (
            error.code == _NOT_DELETED and await api.message(stream_name, {"seq": sequence}) is None
        )
        if not is_gone:
            raise
