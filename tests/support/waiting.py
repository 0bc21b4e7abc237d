"""Wait for a condition with a deadline, instead of for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool], *, timeout_seconds: float = 15.0) -> None:
    """Wait until a condition holds; `TimeoutError` if it does not in time."""

    async def check() -> bool:
        return condition()

    await until_async(check, timeout_seconds=timeout_seconds)


async def until_async(
    condition: Callable[[], Awaitable[bool]], *, timeout_seconds: float = 15.0
) -> None:
    """Wait until a condition that must be asked for holds."""
    async with asyncio.timeout(timeout_seconds):
        while not await condition():  # noqa: ASYNC110  # any condition, so there is no event for it
            await asyncio.sleep(0.01)
