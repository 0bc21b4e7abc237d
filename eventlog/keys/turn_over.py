"""Moves the keys to a fresh stream, so that what was erased leaves every replica's disk.

A replica's Raft log keeps what was written, also after a message was erased; only the end of the
stream ends it. So: close the stream, write a barrier behind which no key can come, let the server
copy what is left, compare, delete the old stream, and only then let the copy take keys. Whoever
reads finds all keys all the time, whoever makes keys waits. Each step is told by how the streams
are set: whoever calls again goes on where another was killed.
"""

from __future__ import annotations

import asyncio
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

PAUSE_SECONDS = 0.05

_logger = structlog.get_logger(__name__)


class TurnOver:
    """Turn one workspace's keys over."""

    def __init__(self, api: JetStreamApi, places: Places) -> None:
        self._api = api
        self._places = places

    async def run(self) -> None:
        """Begin, or go on with what was begun, to the end. Raises `LogUnavailable`.

        Nothing is to be done on one server alone, which keeps no Raft log.
        """
        found = await self._places.find()
        if found and found[0].phase is Phase.LIVE:
            await self._begin(found[0])
        await self.finish()

    async def finish(self) -> None:
        """Go on with what was begun, to the end; do nothing where nothing was."""
        deadline = asyncio.get_running_loop().time() + TURN_OVER_SECONDS_MAX
        while not await self._take_step():
            if asyncio.get_running_loop().time() > deadline:
                raise LogUnavailable("the key store was not turned over in time")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _begin(self, place: Place) -> None:
        if place.replicas == 1:
            return
        if place.was_turned_over:
            age = (datetime.now(UTC) - place.created).total_seconds()
            await asyncio.sleep(max(APART_SECONDS_MIN - age, 0))
        await self._places.close(place)
        _logger.info("key_store_closed", stream=place.name)

    async def _take_step(self) -> bool:
        async def ask(_timeout_seconds: float) -> bool:
            return await self._step()

        return await until_answered(self._api.connection, ask, timeout_seconds=STEP_SECONDS_MAX)

    async def _step(self) -> bool:
        """Do what is to be done next; true when nothing is."""
        found = {place.phase: place for place in await self._places.find()}
        closed, copy = found.get(Phase.CLOSED), found.get(Phase.COPY)
        if closed is not None and copy is None:
            await self._write_barrier()
            await self._places.create_copy(closed)
        elif closed is not None and copy is not None:
            await self._compare(closed, copy)
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

    async def _compare(self, closed: Place, copy: Place) -> None:
        if copy.contents == closed.contents and copy.is_replicated_everywhere:
            await self._places.delete(closed)
        elif copy.contents[0] == closed.contents[0]:
            # Something was erased while it was copied: the copy must not keep it.
            await self._places.delete(copy)
