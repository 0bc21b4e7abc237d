"""Reads of the whole log in order: to its end as of now, or for ever.

A lost consumer is replaced by one that begins after the last revision seen. A gap that remains then
is in the log itself, and raises `LogDamaged`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Generic, Protocol, TypeVar

import structlog

from eventlog.asking_again import until_answered
from eventlog.errors import LogDamaged, LogUnavailable, WorkspaceKeyMissing
from eventlog.incoming import Raw
from eventlog.jetstream_api import JetStreamApi, Json
from eventlog.pull_consumer import Delivery, PullConsumer
from eventlog.replicas_read import ReplicasRead
from eventlog.subjects import Subjects

READ_PATIENCE_SECONDS = 10.0
"""How long a read to the end waits for a server that is away; following waits for ever."""

FRUITLESS_MAX = 2
"""Consumers in a row that give a read nothing, though the log should go on: it cannot be read."""

SURVEY_EVENTS_MAX = 5_000
REOPEN_SECONDS_MIN = 0.05
REOPEN_SECONDS_MAX = 1.0

_logger = structlog.get_logger(__name__)


class Placed(Protocol):
    """Whatever is made of a stored message, as long as it knows its place."""

    @property
    def revision(self) -> int:
        """Its place in the log."""


Read = TypeVar("Read", bound=Placed)


class Reader(Protocol[Read]):
    """Makes of stored messages what is read: entries, or the messages themselves."""

    async def entries(self, messages: Sequence[Raw]) -> list[Read]:
        """Give one for each message, in order. May raise `LogUnavailable`."""


class AsStored:
    """Reads messages as they are."""

    async def entries(self, messages: Sequence[Raw]) -> list[Raw]:
        """Give the messages."""
        return list(messages)


class Tail(Generic[Read]):
    """Read the log of one workspace."""

    def __init__(
        self,
        api: JetStreamApi,
        subjects: Subjects,
        reader: Reader[Read],
        *,
        replicas: ReplicasRead | None = None,
    ) -> None:
        self._api = api
        self._log_name = subjects.log_name
        self._reader = reader
        self._replicas = replicas or ReplicasRead()

    async def read(
        self, *, after_revision: int, batch_events_max: int
    ) -> AsyncGenerator[list[Read], None]:
        """Yield everything after a revision up to the end as of the call."""
        end = await self._last_revision(after_revision)
        if end == after_revision:
            return
        batches = self._batches(
            after_revision, batch_events_max, patience_seconds=READ_PATIENCE_SECONDS
        )
        async with aclosing(batches):
            async for entries in batches:
                past = entries[-1].revision - end
                yield entries[:-past] if past > 0 else entries
                if past >= 0:
                    return

    async def follow(
        self, *, after_revision: int, batch_events_max: int
    ) -> AsyncGenerator[list[Read], None]:
        """Yield everything after a revision, and go on for ever."""
        batches = self._batches(after_revision, batch_events_max, patience_seconds=None)
        async with aclosing(batches):
            async for entries in batches:
                yield entries

    async def survey(self) -> AsyncGenerator[list[Read], None]:
        """Yield what can be read up to the end, with its gaps; an end that gives nothing ends it.

        Raises `LogUnavailable` where the connection is lost on the way again and again.
        """
        end = await self._last_revision(0)
        seen = fruitless = 0
        is_lost = True
        while is_lost and seen < end:
            if fruitless > FRUITLESS_MAX:
                raise LogUnavailable("the connection was lost while the log was read")
            await asyncio.sleep(min(REOPEN_SECONDS_MIN * fruitless, REOPEN_SECONDS_MAX))
            consumer = await self._open(seen, SURVEY_EVENTS_MAX, READ_PATIENCE_SECONDS)
            fruitless += 1
            try:
                while seen < end and (found := await consumer.receive(for_ever=False)):
                    self._note_gaps(consumer, seen, found)
                    seen, fruitless = found[-1].revision, 0
                    yield await self._decode(found, READ_PATIENCE_SECONDS)
            finally:
                with suppress(LogUnavailable):
                    await consumer.close()
            is_lost = consumer.is_lost
        if seen < end:
            self._replicas.note(consumer.server)
            self._replicas.lack(seen + 1, end)

    async def _batches(
        self, seen: int, events_max: int, *, patience_seconds: float | None
    ) -> AsyncGenerator[list[Read], None]:
        fruitless = 0
        while True:
            await asyncio.sleep(min(REOPEN_SECONDS_MIN * fruitless, REOPEN_SECONDS_MAX))
            if patience_seconds is not None and fruitless > FRUITLESS_MAX:
                self._replicas.lack(seen + 1, seen + 1)
                raise LogDamaged(f"revision {seen + 1} cannot be read")
            consumer = await self._open(seen, events_max, patience_seconds)
            is_fresh = True
            fruitless += 1
            try:
                while deliveries := await _receive(consumer, for_ever=patience_seconds is None):
                    run = _gapless(seen, deliveries)
                    self._note_gaps(consumer, seen, deliveries[: len(run) + 1])
                    if is_fresh and not run:
                        raise LogDamaged(
                            f"revision {deliveries[0].revision} stands where {seen + 1} should"
                        )
                    if run:
                        yield await self._decode(run, patience_seconds)
                        seen = run[-1].revision
                        fruitless = 0
                    if len(run) < len(deliveries):
                        break
                    is_fresh = False
            finally:
                with suppress(LogUnavailable):  # the server drops it by itself after a while
                    await consumer.close()
            _logger.info("log_consumer_lost", log=self._log_name, revision=seen)

    async def _open(
        self, seen: int, events_max: int, patience_seconds: float | None
    ) -> PullConsumer:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        wait_seconds = REOPEN_SECONDS_MIN
        while True:
            consumer = PullConsumer(self._api, self._log_name, events_max=events_max)
            try:
                await self._last_revision(seen)
                await consumer.create(seen + 1)
            except LogUnavailable as error:
                with suppress(LogUnavailable):
                    await consumer.close()
                if patience_seconds is not None and loop.time() - begun > patience_seconds:
                    raise
                _logger.warning("log_not_readable", log=self._log_name, reason=error.message)
            else:
                self._replicas.note(consumer.server)
                return consumer
            await self._api.connection.wait_connected(timeout_seconds=REOPEN_SECONDS_MAX)
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, REOPEN_SECONDS_MAX)

    def _note_gaps(self, consumer: PullConsumer, seen: int, deliveries: Sequence[Delivery]) -> None:
        """Note what a consumer that is not lost left out after what was seen."""
        if consumer.is_lost or deliveries[-1].revision == seen + len(deliveries):
            return
        self._replicas.note(consumer.server)
        for delivery in deliveries:
            if delivery.revision > seen + 1:
                self._replicas.lack(seen + 1, delivery.revision - 1)
            seen = delivery.revision

    async def _last_revision(self, seen: int) -> int:
        """Give the log's end; a log that ends before what was seen of it has lost events."""

        async def ask(timeout_seconds: float) -> Json:
            name = f"STREAM.INFO.{self._log_name}"
            return await self._api.call(name, timeout_seconds=timeout_seconds)

        info = await until_answered(
            self._api.connection, ask, timeout_seconds=READ_PATIENCE_SECONDS
        )
        last = int(info["state"]["last_seq"])
        if last < seen:
            raise LogDamaged(f"the log ends at revision {last}, but {seen} was read from it")
        return last

    async def _decode(self, run: Sequence[Delivery], patience_seconds: float | None) -> list[Read]:
        """Read messages; wait for a key store that is away as long as for the log itself."""
        messages = [
            Raw(d.message.subject, d.revision, d.message.headers or {}, d.message.data) for d in run
        ]
        loop = asyncio.get_running_loop()
        begun, wait_seconds = loop.time(), REOPEN_SECONDS_MIN
        while True:
            try:
                return await self._reader.entries(messages)
            except WorkspaceKeyMissing:
                raise
            except LogUnavailable as error:
                if patience_seconds is not None and loop.time() - begun > patience_seconds:
                    raise
                _logger.warning("keys_not_readable", log=self._log_name, reason=error.message)
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, REOPEN_SECONDS_MAX)


async def _receive(consumer: PullConsumer, *, for_ever: bool) -> list[Delivery]:
    try:
        return await consumer.receive(for_ever=for_ever)
    except LogUnavailable:
        return []


def _gapless(seen: int, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
    """Give the deliveries up to the first that does not follow the one before it."""
    for index, delivery in enumerate(deliveries):
        if delivery.revision != seen + index + 1:
            return deliveries[:index]
    return deliveries
