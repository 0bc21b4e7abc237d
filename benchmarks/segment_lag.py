"""How late a membership is seen: from an append's acknowledgement, or from a window's end, on.

The pieces that run, in one process over a server of its own: group commit, projector into LMDB, the
steward's clock. A reader looks at the journal as a query would, in a snapshot of the read side.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from actors.clock import SystemClock
from actors.log_clock import LogClock
from actors.steward import Duty, Steward
from app.stewarding import CLOCK_SECONDS, ClockDuty
from benchmarks import load
from benchmarks.log import APPEND_SECONDS_MAX
from benchmarks.measuring import Metric, Metrics
from benchmarks.scene import Scene, log_scene
from domain.consent import LawfulBasis
from domain.event import Event
from domain.ids import WORKSPACE_STREAM, Stream
from domain.signal_events import SignalsRecorded
from domain.signals import Signal
from domain.workspace_events import (
    PurposeDefined,
    SegmentActivated,
    SegmentDefined,
    SourceRegistered,
)
from eventlog.commit import GroupCommit
from eventlog.port import EMPTY, Attempt, Head, Stored
from projections.fold import row_codec
from projections.instants import time_of
from projections.runner import Projector
from projections.segments.journal import Position, everything_after
from projections.store import Store, WritableStore

SIGNALS_PER_SECOND = 1_000
TICK_SECONDS = 0.02
LOOK_SECONDS = 0.001
WINDOW_SECONDS = 4
SETTLE_SECONDS_MAX = 60.0
MILLISECONDS = 1_000.0


@dataclass(frozen=True, slots=True)
class LagLoad:
    """For how long signals come, of how many people."""

    seconds: float = 15.0
    people: int = 5_000


class Publisher:
    """Appends signals of people at an even pace, and notes when each was acknowledged."""

    def __init__(self, scene: Scene, people: int) -> None:
        self._commit = GroupCommit(scene.log)
        self._heads: dict[Stream, Head] = {load.new_record(): EMPTY for _ in range(people)}
        self.acknowledged: dict[int, float] = {}

    async def append(self, stream: Stream, body: Event) -> int:
        """Append an event that is recorded now; give its revision."""
        now = datetime.now(UTC)
        draft = load.draft(stream, body)._replace(happened_at=now, recorded_at=now)
        head = self._heads.get(stream, EMPTY)
        outcome = await self._commit.append(
            Attempt((draft,), {stream: head}), timeout_seconds=APPEND_SECONDS_MAX
        )
        if not isinstance(outcome, Stored):
            raise TypeError(f"an append ended as {outcome}")
        self._heads[stream] = outcome.heads[stream]
        self.acknowledged[outcome.revision] = perf_counter()
        return outcome.revision

    async def define(self) -> None:
        """Define a purpose, a source and a segment with a short window."""
        basis = LawfulBasis.CONTRACT
        await self.append(WORKSPACE_STREAM, PurposeDefined(purpose="service", basis=basis))
        source = SourceRegistered(source="shop", purposes=("service",))
        await self.append(WORKSPACE_STREAM, source)
        expression = f'seen("Order Completed", "{WINDOW_SECONDS}s")'
        defined = SegmentDefined(
            segment="fresh", definition=1, expression=expression, purposes=("service",)
        )
        await self.append(WORKSPACE_STREAM, defined)
        await self.append(WORKSPACE_STREAM, SegmentActivated(segment="fresh", definition=1))

    async def publish(self, seconds: float) -> None:
        """Let everybody in turn do something; nobody twice while it is under way."""
        records = [stream for stream in self._heads if stream != WORKSPACE_STREAM]
        each = int(SIGNALS_PER_SECOND * TICK_SECONDS)
        begun, under_way = perf_counter(), dict[Stream, asyncio.Task[int]]()
        for tick in range(int(seconds / TICK_SECONDS)):
            for place in range(tick * each, tick * each + each):
                stream = records[place % len(records)]
                if stream in under_way:
                    await under_way[stream]
                under_way[stream] = asyncio.create_task(self.append(stream, _purchase()))
            await asyncio.sleep(max(0.0, begun + (tick + 1) * TICK_SECONDS - perf_counter()))
        await asyncio.gather(*under_way.values())


class Onlooker:
    """Looks at the journal in snapshots of the read side, and notes when each change was there."""

    def __init__(self, store: WritableStore) -> None:
        self._store = store
        self._place = Position(0, 0)
        self.entered: list[tuple[int, float]] = []
        self.expired_ms: list[float] = []
        self.inside = 0

    async def look_on(self) -> None:
        """Look for ever."""
        while True:
            with self._store.snapshot() as tables:
                found = list(everything_after(tables, self._place))
            seen, now = perf_counter(), datetime.now(UTC)
            for position, change in found:
                self._place = position
                if change.segment != "fresh":
                    continue
                self.inside += 1 if change.change == "entered" else -1
                if change.change == "entered":
                    self.entered.append((change.revision, seen))
                else:
                    late = (now - time_of(change.at)) / timedelta(milliseconds=1)
                    self.expired_ms.append(late)
            await asyncio.sleep(LOOK_SECONDS)

    async def see_everybody_leave(self) -> tuple[list[tuple[int, float]], list[float]]:
        """Wait until the segment is empty; give what was seen since the last time."""
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while True:
                if self.inside == 0 and self.entered:
                    break
                await asyncio.sleep(TICK_SECONDS)
        seen = self.entered, self.expired_ms
        self.entered, self.expired_ms = [], []
        return seen


async def measure_lag(size: LagLoad) -> Metrics:
    """Measure how late memberships are seen, and how late windows close."""
    async with log_scene() as scene:
        with TemporaryDirectory() as folder:
            return await _measure(scene, Path(folder), size)


async def _measure(scene: Scene, folder: Path, size: LagLoad) -> Metrics:
    store = Store.open_writer(folder, row_codec(scene.log))
    clock = LogClock(scene.log, SystemClock())
    await clock.start()
    clock_duty = Duty("clock", CLOCK_SECONDS, ClockDuty(scene.log, store, clock).do)
    publisher, onlooker = Publisher(scene, size.people), Onlooker(store)
    running = [
        asyncio.create_task(Projector(scene.log, store).run()),
        asyncio.create_task(Steward([clock_duty]).run()),
        asyncio.create_task(onlooker.look_on()),
    ]
    await publisher.define()
    await publisher.publish(size.people / SIGNALS_PER_SECOND)  # who is new needs a key first
    await onlooker.see_everybody_leave()
    await publisher.publish(size.seconds)
    entered, expired = await onlooker.see_everybody_leave()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await clock.close()
    store.close()
    lags = [(seen - publisher.acknowledged[revision]) * MILLISECONDS for revision, seen in entered]
    return {
        "segment_lag_ms": Metric(_p99(lags), "ms"),
        "window_expiry_ms": Metric(_p99(expired), "ms"),
    }


def _p99(samples: list[float]) -> float:
    return max(0.001, sorted(samples)[int(len(samples) * 0.99)])


def _purchase() -> SignalsRecorded:
    signal = Signal(message_id=load.new_id(), name="Order Completed", happened_at=datetime.now(UTC))
    return SignalsRecorded(source="shop", signals=(signal,))
