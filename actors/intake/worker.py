"""The ingest worker: pulls messages in rounds, has them carried out, and only then settles them.

A plain class, hosted by whoever owns the process. A message is acknowledged when each of its items
is recorded, known already, declined, or kept as a dead letter; whatever could not be settled is
given back and comes again, and R8 makes that harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from actors.clock import Clock
from actors.intake.counters import IntakeCounters
from actors.intake.grouping import AUTH_ID
from actors.intake.key_order import KeyOrder
from actors.intake.port import CommandRouter, DeadLetters, IntakeMessage, IntakeQueue
from actors.intake.round import Decoder, Round
from eventlog.errors import LogUnavailable

ROUND_MESSAGES_MAX = 500
ROUNDS_IN_FLIGHT_MAX = 4
GATHER_SECONDS = 0.02
PULL_WAIT_SECONDS = 5.0
UNAVAILABLE_PAUSE_SECONDS = 0.25
NAK_DELAY_SECONDS = 0.5
NAK_DELAY_SECONDS_MAX = 30.0
TRIM_EVERY_SECONDS = 60.0
SETTLED_KEPT_SECONDS = 86_400.0
"""How long the queue keeps what was settled, for whoever has to look at it again."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker takes on at once."""

    round_messages_max: int = ROUND_MESSAGES_MAX
    rounds_in_flight_max: int = ROUNDS_IN_FLIGHT_MAX
    gather_seconds: float = GATHER_SECONDS
    pull_wait_seconds: float = PULL_WAIT_SECONDS
    nak_delay_seconds: float = NAK_DELAY_SECONDS
    settled_kept_seconds: float = SETTLED_KEPT_SECONDS

    @property
    def trim_every_seconds(self) -> float:
        """How often is looked for what was kept long enough."""
        return min(TRIM_EVERY_SECONDS, self.settled_kept_seconds / 4)


class IngestWorker:
    """Carry what publishers sent to the customers' hosts, at least once and in few commands."""

    def __init__(
        self,
        queue: IntakeQueue,
        dead_letters: DeadLetters,
        *,
        router: CommandRouter,
        decode: Decoder,
        clock: Clock,
        subject_prefix: str,
        limits: WorkerLimits | None = None,
        auth_id: str = AUTH_ID,
    ) -> None:
        self._queue = queue
        self._dead_letters = dead_letters
        self._router = router
        self._decode = decode
        self._auth_id = auth_id
        self._clock = clock
        self._prefix = subject_prefix
        self._limits = limits or WorkerLimits()
        self._slots = asyncio.Semaphore(self._limits.rounds_in_flight_max)
        self._rounds: set[asyncio.Task[None]] = set()
        self._unsettled: dict[str, IntakeMessage] = {}
        self._order = KeyOrder(subject_prefix)
        self._stopping = asyncio.Event()
        self.counters = IntakeCounters()

    async def run(self) -> None:
        """Work until `stop` is called; then finish the rounds in flight."""
        keepers = [
            asyncio.create_task(self._keep_alive(), name="intake-keep-alive"),
            asyncio.create_task(self._keep_trim(), name="intake-trim"),
        ]
        try:
            while not self._stopping.is_set():
                await self._slots.acquire()
                await self._begin_round()
            await asyncio.gather(*self._rounds)
        finally:
            await _cancel([*keepers, *self._rounds])

    def stop(self) -> None:
        """Take no more messages; `run` returns when the rounds in flight are settled."""
        self._stopping.set()

    async def _begin_round(self) -> None:
        """Pull, and settle what came in a task of its own; the caller holds a slot for it."""
        try:
            messages = await self._pull()
        except BaseException:
            self._slots.release()
            raise
        if not messages:
            self._slots.release()
            return
        self.counters.received += len(messages)
        self.counters.redelivered += sum(message.deliveries > 1 for message in messages)
        self._unsettled.update((message.token, message) for message in messages)
        self.counters.in_flight = len(self._unsettled)
        messages.sort(key=lambda message: (message.stream, message.sequence))
        before, own = self._order.begin(messages)
        work = self._settle_in_order(messages, before=before, own=own)
        task = asyncio.create_task(work, name="intake-round")
        self._rounds.add(task)
        task.add_done_callback(self._end_round)

    def _end_round(self, task: asyncio.Task[None]) -> None:
        self._rounds.discard(task)
        self._slots.release()

    async def _pull(self) -> list[IntakeMessage]:
        """Pull a round; none if the queue is away or the worker is to stop."""
        pull = asyncio.ensure_future(
            self._queue.pull(
                batch_messages_max=self._limits.round_messages_max,
                wait_seconds=self._limits.pull_wait_seconds,
                gather_seconds=self._limits.gather_seconds,
            )
        )
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({pull, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return await pull if pull.done() else []
        except LogUnavailable as error:
            _log.warning("intake_unavailable", reason=error.reason)
            await self._pause(UNAVAILABLE_PAUSE_SECONDS)
            return []
        finally:
            await _cancel([pull, stopping])

    async def _settle_in_order(
        self,
        messages: list[IntakeMessage],
        *,
        before: set[asyncio.Future[None]],
        own: asyncio.Future[None],
    ) -> None:
        """Settle a round once those are over that hold earlier messages of its keys."""
        settled: list[IntakeMessage] = []
        try:
            if before:
                await asyncio.wait(before)
            await self._settle(messages, settled)
        finally:
            self._order.end(own, messages, settled=settled)

    async def _settle(self, messages: list[IntakeMessage], settled: list[IntakeMessage]) -> None:
        """Carry a round out and settle its messages; whatever happens, none is lost."""
        held = self._order.held(messages)
        work = Round(
            [message for message in messages if message.token not in held],
            self._router,
            decode=self._decode,
            auth_id=self._auth_id,
            clock=self._clock,
            prefix=self._prefix,
            counters=self.counters,
        )
        try:
            await work.execute()
            settled += await work.bury(self._dead_letters)
            await self._until_sent(lambda: self._queue.ack(settled))
        except LogUnavailable as error:
            _log.warning("intake_unavailable", reason=error.reason)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not lose messages
            _log.error("intake_round_failed", error=type(error).__name__)
        try:
            await self._give_back(messages, settled)
        finally:
            for message in messages:
                self._unsettled.pop(message.token, None)
            self.counters.in_flight = len(self._unsettled)

    async def _give_back(
        self, messages: Sequence[IntakeMessage], settled: Iterable[IntakeMessage]
    ) -> None:
        """Have what was not settled delivered again, the later the more often it came."""
        done = {message.token for message in settled}
        by_deliveries: dict[int, list[IntakeMessage]] = {}
        for message in messages:
            if message.token not in done:
                by_deliveries.setdefault(message.deliveries, []).append(message)
        for deliveries, again in by_deliveries.items():
            delay = self._limits.nak_delay_seconds * 2.0 ** min(deliveries - 1, 16)
            self.counters.retried += len(again)
            nak = partial(self._queue.nak, again, delay_seconds=min(delay, NAK_DELAY_SECONDS_MAX))
            await self._until_sent(nak)

    async def _until_sent(self, send: Callable[[], Awaitable[None]]) -> None:
        """Answer the queue over a short absence; past its ack_wait it delivers again by itself."""
        try:
            async with asyncio.timeout(self._queue.ack_wait_seconds):
                while not await self._is_sent(send) and not self._stopping.is_set():
                    await self._pause(UNAVAILABLE_PAUSE_SECONDS)
        except TimeoutError:
            _log.warning("intake_answers_lost")

    async def _is_sent(self, send: Callable[[], Awaitable[None]]) -> bool:
        try:
            await send()
        except LogUnavailable:
            return False
        return True

    async def _keep_alive(self) -> None:
        """Ask for more time for whatever takes long, well before the queue's patience ends."""
        while True:
            await asyncio.sleep(self._queue.ack_wait_seconds / 3)
            with suppress(LogUnavailable):
                await self._queue.in_progress(list(self._unsettled.values()))
                self._order.forget(await self._queue.settled_through())

    async def _keep_trim(self) -> None:
        while True:
            await asyncio.sleep(self._limits.trim_every_seconds)
            before = self._clock.now() - timedelta(seconds=self._limits.settled_kept_seconds)
            with suppress(LogUnavailable):
                await self._queue.trim(settled_before=before)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:  # Any: results are not read
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
