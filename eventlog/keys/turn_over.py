"""Moves the keys to a fresh stream, so that what was erased leaves every replica's disk.

A replica's Raft log keeps what was written; only the end of the stream ends it. So: close the
stream, write a barrier behind which no key can come, let the server copy what is left, delete the
old stream, and only then let the copy take keys. Each step is told by how the streams are set, and
anybody may take it: nothing is ever deleted but the old stream, once the copy holds all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import uuid4

import structlog

from eventlog.asking_again import until_answered
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi, checked
from eventlog.keys.places import Phase, Place, Places

TURN_OVER_SECONDS_MAX = 120.0
STEP_SECONDS_MAX = 10.0
APART_SECONDS_MIN = 60.0
"""Names are used again: a request to delete that was held up must not meet the next of a name."""

TURN_OVERS_MAX = 3
TOGETHER_SECONDS_MAX = 10.0
"""How long is waited for a server that lags; one that is not there by then is away. Without it the
others hold the copy as they hold every write."""

PAUSE_SECONDS = 0.05

_logger = structlog.get_logger(__name__)


class TurnOver:
    """Turn one workspace's keys over."""

    def __init__(self, api: JetStreamApi, places: Places) -> None:
        self._api = api
        self._places = places

    async def run(self, erase_destroyed: Callable[[], Awaitable[None]]) -> None:
        """Turn over what is left when destroyed keys are erased. Raises `LogUnavailable`.

        What others had begun is ended, but may have copied what was erased since. Nothing is to be
        done on one server alone, which keeps no Raft log.
        """
        for _ in range(TURN_OVERS_MAX):
            await erase_destroyed()
            if await self._run_once():
                return
        raise LogUnavailable("others turn the keys over all the time")

    async def _run_once(self) -> bool:
        """Begin, or go on with what was begun, to the end; false where others had begun."""
        found = await self._places.find()
        has_begun = not found or found[0].phase is Phase.LIVE
        if found and has_begun:
            await self._begin(found[0])
        await self.finish()
        await self._wait_together()
        return has_begun

    async def finish(self) -> None:
        """Go on with what was begun, to the end; do nothing where nothing was."""
        started = asyncio.get_running_loop().time()
        while not await self._take_step(started):
            if asyncio.get_running_loop().time() > started + TURN_OVER_SECONDS_MAX:
                raise LogUnavailable("the key store was not turned over in time")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _begin(self, place: Place) -> None:
        if place.replicas == 1:
            return
        if place.was_turned_over:
            age = (datetime.now(UTC) - place.created).total_seconds()
            await asyncio.sleep(max(APART_SECONDS_MIN - age, 0))
        await self._wait_together()
        await self._places.close(place)
        _logger.info("key_store_closed", stream=place.name)

    async def _wait_together(self) -> None:
        """Wait for servers that lag; `LogUnavailable` where one is away: its disk keeps all."""
        deadline = asyncio.get_running_loop().time() + TOGETHER_SECONDS_MAX
        while not all(place.is_replicated_everywhere for place in await self._places.find()):
            if asyncio.get_running_loop().time() > deadline:
                raise LogUnavailable("a server that keeps keys is away")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _take_step(self, started: float) -> bool:
        async def ask(_timeout_seconds: float) -> bool:
            return await self._step(started)

        return await until_answered(self._api.connection, ask, timeout_seconds=STEP_SECONDS_MAX)

    async def _step(self, started: float) -> bool:
        """Do what is to be done next; true when nothing is."""
        found = {place.phase: place for place in await self._places.find()}
        closed, copy = found.get(Phase.CLOSED), found.get(Phase.COPY)
        if closed is not None and copy is None:
            await self._write_barrier()
            await self._places.create_copy(closed)
        elif closed is not None and copy is not None:
            waited = asyncio.get_running_loop().time() - started
            if copy.holds(closed) and (
                copy.is_replicated_everywhere or waited > TOGETHER_SECONDS_MAX
            ):
                await self._places.delete(closed)
        elif copy is not None:
            await self._places.promote(copy)
            _logger.info("key_store_turned_over", stream=copy.name)
        else:
            return True
        return False

    async def _write_barrier(self) -> None:
        """Have the stream's leader put something behind all that it took before it was closed."""
        answer = await self._api.connection.request(
            self._places.barrier, uuid4().bytes, timeout_seconds=STEP_SECONDS_MAX
        )
        checked(answer.data)
