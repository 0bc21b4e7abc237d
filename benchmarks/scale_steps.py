"""The steps of `scale.py`, each in a process of its own so that its memory is its own.

A step that was killed goes on where its data end, and adds its time to what it took before.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import structlog
import uvloop

from actors.remote import calm_collector
from app.processes import cores, end_with_parent
from benchmarks.scale_log import (
    EVENTS_EACH,
    Part,
    append_part,
    append_rules,
    definition,
    read_heads,
    rules_and_segments,
)
from benchmarks.scale_state import State
from domain.event import Event
from domain.ids import WORKSPACE_STREAM
from domain.workspace_events import SegmentActivated
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KEYS_HELD_MAX, KeyRing
from eventlog.keys.workspace_key import key_source
from eventlog.port import EMPTY, Head
from projections.fold import row_codec
from projections.generations import rebuilding_folder, request_rebuild, serving_folder
from projections.part_process import PartProcesses
from projections.read_side import ReadSide
from projections.runner import Projector
from projections.segments.audience_parts import AllOf, Audience, InSegment, NoneOf
from projections.segments.audiences import Sets, count_audience
from projections.segments.definitions import read_segments
from projections.segments.explaining import ready_for_activation
from projections.store import Store

WORKSPACE = "scale"
KEY_FILE = "workspace.key"
QUARTER = 4
COUNTS = 400
LOOK_SECONDS = 0.05
STEP_SECONDS_MAX = 24 * 3_600.0
TRAIT_ONLY = 'traits.t1 == "v1" || traits.t2 == "v2"'
WINDOWED = 'count("Signal 1", "30d") >= 1'


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step works, on how much."""

    folder: Path
    url: str
    customers: int
    segments: int

    @property
    def read_side(self) -> Path:
        """The read side's folder."""
        return self.folder / "read-side"

    @property
    def parts(self) -> tuple[Part, Part]:
        """The first quarter of the customers, and the others."""
        after = len(rules_and_segments(self.segments))
        quarter = Part(0, self.customers // QUARTER, after)
        rest = self.customers - quarter.customers
        return quarter, Part(quarter.customers, rest, quarter.last_revision)


Step = Callable[[Place, State], Coroutine[None, None, None]]


def run_step(name: str, place: Place) -> None:
    """Run a step to its end in this process."""
    end_with_parent()  # a killed run leaves no step behind that goes on writing
    calm_collector()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    uvloop.run(STEPS[name](place, State(place.folder)))


async def append_quarter(place: Place, state: State) -> None:
    """Write the log of a quarter of the customers."""
    await _append(place, state, "append_quarter", place.parts[0])


async def append_rest(place: Place, state: State) -> None:
    """Write the log of the other customers."""
    await _append(place, state, "append_rest", place.parts[1])


async def project(place: Place, state: State) -> None:
    """Fold the log into an empty read side."""
    goal = place.parts[1].last_revision
    async with _log(place) as log:
        store = Store.open_writer(place.read_side, row_codec(log))
        beside = PartProcesses(store, serving_folder(place.read_side), cores())
        begun, projector = store.checkpoint.revision, Projector(log, store, beside=beside)
        with state.timing("project", lambda: projector.checkpoint.revision - begun):
            await _run_until(projector.run(), _when(lambda: projector.checkpoint.revision >= goal))
        store.close()
    state.note("project", bytes_on_disk=_data_bytes(place.read_side))


async def count(place: Place, state: State) -> None:
    """Count audiences of three segments and a purpose, each another expression."""
    async with _log(place) as log:
        store = Store.open_writer(place.read_side, row_codec(log))
        drawn, sets, samples = random.Random(7), Sets(), []
        with store.snapshot() as tables:
            for _ in range(COUNTS):
                one, other, without = (
                    InSegment(f"segment_{drawn.randrange(place.segments)}") for _ in range(3)
                )
                parts: tuple[Audience, ...] = (one, other, NoneOf((without,)))
                begun = perf_counter()
                count_audience(tables, sets, AllOf(parts), purpose="service")
                samples.append((perf_counter() - begun) * 1e6)
        store.close()
    state.note("count", microseconds=median(samples))


async def backfill_traits(place: Place, state: State) -> None:
    """Back-fill one new segment that reads traits only."""
    await _backfill(place, state, "backfill_traits", TRAIT_ONLY)


async def backfill_windowed(place: Place, state: State) -> None:
    """Back-fill one new segment that counts signals in a window."""
    await _backfill(place, state, "backfill_windowed", WINDOWED)


async def rebuild(place: Place, state: State) -> None:
    """Make the read side anew beside the one that serves, until it serves itself."""
    async with _log(place) as log:
        if not state.is_begun("rebuild"):
            request_rebuild(place.read_side)
        read_side = ReadSide(log, place.read_side, row_codec(log), processes=cores())
        with state.timing("rebuild", lambda: 0):
            await _run_until(read_side.run(), _when(lambda: _serves_anew(place)))
        made = read_side.checkpoint.revision
    state.note("rebuild", made=made, bytes_on_disk=_data_bytes(serving_folder(place.read_side)))


BACKFILLS = ("backfill_traits", "backfill_windowed")
STEPS: dict[str, Step] = {
    "append_quarter": append_quarter,
    "append_rest": append_rest,
    "project": project,
    "count": count,
    "backfill_traits": backfill_traits,
    "backfill_windowed": backfill_windowed,
    "rebuild": rebuild,
}


async def _append(place: Place, state: State, name: str, part: Part) -> None:
    async with _log(place, keys_max=place.customers + 1) as log:
        revision = (await log.shape()).last_revision
        head = await _workspace_head(log)
        heads = await read_heads(log, place.customers)
        with state.timing(name, lambda: 0):
            rules = rules_and_segments(place.segments)[head.version :]
            if part.first == 0 and rules:
                await append_rules(log, rules, head, revision=revision)
                revision += len(rules)
            await append_part(log, part, heads, revision=revision)
    state.note(name, made=part.customers * EVENTS_EACH)


async def _backfill(place: Place, state: State, name: str, expression: str) -> None:
    async with _log(place) as log:
        store = Store.open_writer(place.read_side, row_codec(log))
        projector = Projector(log, store)
        told = len(rules_and_segments(place.segments)) + 2 * BACKFILLS.index(name)

        async def define_and_activate() -> None:
            await _append_once(log, definition(name, expression), told=told)
            await _when(lambda: _is_filled(store, name))
            await _append_once(log, SegmentActivated(segment=name, definition=1), told=told + 1)
            last = (await log.shape()).last_revision
            await projector.wait_for(last, timeout_seconds=STEP_SECONDS_MAX)

        with state.timing(name, lambda: 0):
            await _run_until(projector.run(), define_and_activate())
        store.close()
    state.note(name, made=place.customers)


async def _append_once(log: JetStreamEventLog, body: Event, *, told: int) -> None:
    """Append an event of the workspace behind so many, unless a killed run has done so."""
    head = await _workspace_head(log)
    if head.version == told:
        await append_rules(log, [body], head, revision=(await log.shape()).last_revision)


def _is_filled(store: Store, name: str) -> bool:
    """Say whether a definition can take effect, or has."""
    with store.snapshot() as tables:
        known = read_segments(tables).get(name)
        is_active = known is not None and known.active is not None
        return is_active or (name, 1) in ready_for_activation(tables)


def _serves_anew(place: Place) -> bool:
    return rebuilding_folder(place.read_side) is None


async def _when(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # files and threads tell, no event
        await asyncio.sleep(LOOK_SECONDS)


async def _run_until(
    work: Coroutine[None, None, None], reached: Coroutine[None, None, None]
) -> None:
    """Let something run until it is reached what it runs for; raise what either raises."""
    running, waiting = asyncio.create_task(work), asyncio.create_task(reached)
    try:
        done, _ = await asyncio.wait(
            {running, waiting}, timeout=STEP_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()
    finally:
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)


async def _workspace_head(log: JetStreamEventLog) -> Head:
    return (await log.last_heads([WORKSPACE_STREAM])).get(WORKSPACE_STREAM, EMPTY)


@asynccontextmanager
async def _log(place: Place, *, keys_max: int = KEYS_HELD_MAX) -> AsyncIterator[JetStreamEventLog]:
    connection = await Connection.open(place.url, name="scale")
    try:
        source = key_source(f"file:{place.folder / KEY_FILE}")
        keys = JetStreamKeyStore(connection, WORKSPACE, source=source)
        await keys.open()
        log = JetStreamEventLog(connection, WORKSPACE, keys=KeyRing(keys, keys_max=keys_max))
        await log.ensure_stream()
        yield log
        await log.close()
    finally:
        await connection.close()


def _data_bytes(folder: Path) -> int:
    return (folder / "data.mdb").stat().st_size
