"""What `koseki import` does: lines of a file through the ingest worker's own rounds to the hosts.

The lines pass every gate that a publisher's message does. How far an import has come is noted in
the data folder, by source and file, until it is through; a second run goes on from there.
"""

from __future__ import annotations

import asyncio
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import orjson

from actors.clock import SystemClock
from actors.intake.imported import LineDecoder
from actors.intake.line_queue import LineFaults, LineQueue, LineReader, Place
from actors.intake.lines import Columns, Line, csv_lines, csv_text, json_lines
from actors.intake.worker import IngestWorker, WorkerLimits
from actors.lanes import HostTable, PartedLane
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from app.bootstrap import build_normaliser, open_clock, open_connection
from app.settings import Settings, read_json, write_atomically
from app.status import running_settings
from domain.errors import Invalid
from eventlog.jetstream import JetStreamEventLog
from eventlog.lanes import NatsLanes

AUTH_ID = "import"
LIMITS = WorkerLimits(round_messages_max=250, rounds_in_flight_max=4, pull_wait_seconds=1.0)
NOTED_EVERY_SECONDS = 1.0

Format = Literal["jsonl", "csv"]


@dataclass(slots=True)
class _Note:
    """How far an import has come, on disk."""

    path: Path
    place: Place = field(default_factory=Place)
    faults: LineFaults = field(default_factory=LineFaults)
    noted_at: float = 0.0

    @classmethod
    def read(cls, path: Path) -> _Note:
        found = read_json(path)
        if not found:
            return cls(path)
        faults = LineFaults([(n, r) for n, r in found["faults"]])
        faults.counted.update(found["counted"])
        return cls(path, Place(**found["place"]), faults)

    def write(self, place: Place) -> None:
        now = time.monotonic()
        if now - self.noted_at < NOTED_EVERY_SECONDS:
            return
        self.noted_at = now
        faults = self.faults.up_to(place.number)
        known = {"place": asdict(place), "faults": faults.named, "counted": faults.counted}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, orjson.dumps(known))


def read_columns(path: Path | None) -> Columns:
    """Read what columns mean from TOML: tables `columns` and `defaults`. Raises `Invalid`."""
    if path is None:
        return Columns()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise Invalid("INVALID_COLUMNS", f"{path} is not TOML") from None
    tables = {name: told.pop(name, {}) for name in ("columns", "defaults")}
    if told or not all(isinstance(v, str) for table in tables.values() for v in table.values()):
        raise Invalid("INVALID_COLUMNS", f"{path} has tables `columns` and `defaults` of texts")
    return Columns(tables["columns"], tables["defaults"])


async def import_lines(
    settings: Settings,
    file: Path,
    *,
    source: str,
    form: Format,
    columns: Columns,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Import a file for a source; give what became of its lines, and the rate.

    Raises `NotRunning`, `Invalid`, `LogError` and `OSError`.
    """
    settings = running_settings(settings)
    note = _Note.read(_note_path(settings, file, source))
    begun = time.monotonic()
    with _reading(file, form, columns, note) as (reader, note):
        queue = _queue(settings, reader, note, source=source, progress=progress)
        async with _worker(settings, queue, note.faults, source=source) as worker:
            await queue.wait_done()
            counters = worker.counters.report()
    if queue.stopped_by is None:
        note.path.unlink(missing_ok=True)
    seconds = time.monotonic() - begun
    return {
        "lines": note.place.lines + queue.settled,
        "lines_settled_before": note.place.lines,
        "recorded": counters.recorded,
        "duplicates": counters.duplicates,
        "declined": counters.declined,
        "unusable": dict(note.faults.counted),
        "unusable_lines": [{"line": n, "reason": r} for n, r in sorted(note.faults.named)],
        "stopped_by": queue.stopped_by,
        "seconds": round(seconds, 3),
        "lines_per_second": round(queue.settled / seconds) if seconds else 0,
    }


def _note_path(settings: Settings, file: Path, source: str) -> Path:
    named = sha256(f"{settings.workspace}\0{source}\0{file.resolve()}".encode()).hexdigest()
    return settings.data / "imports" / f"{named[:32]}.json"


def _queue(
    settings: Settings,
    reader: LineReader,
    note: _Note,
    *,
    source: str,
    progress: Callable[[int], None],
) -> LineQueue:
    def settled(count: int, place: Place) -> None:
        note.write(place)
        progress(count)

    return LineQueue(
        reader, subject=f"koseki.{settings.workspace}.ingest.{source}", settled=settled
    )


@contextmanager
def _reading(
    file: Path, form: Format, columns: Columns, note: _Note
) -> Iterator[tuple[LineReader, _Note]]:
    """Open a file behind what an import settled before; at its start if it is another by now."""
    with lines_of(file, form, columns) as lines:
        reader = LineReader(lines)
        if reader.skip_to(note.place):
            yield reader, note
            return
    with lines_of(file, form, columns) as lines:
        yield LineReader(lines), _Note(note.path)


@contextmanager
def lines_of(file: Path, form: Format, columns: Columns) -> Iterator[Iterator[Line]]:
    """Open a file and read its lines as what its form says. Raises `Invalid` and `OSError`."""
    with file.open("rb") as raw:
        if form == "jsonl":
            yield json_lines(raw)
            return
        with csv_text(raw) as text:
            yield csv_lines(text, columns)


@asynccontextmanager
async def _worker(
    settings: Settings, queue: LineQueue, faults: LineFaults, *, source: str
) -> AsyncIterator[IngestWorker]:
    connection = await open_connection(settings, "import", role="gateway")
    log = JetStreamEventLog(connection, settings.workspace)
    clock = await open_clock(log)
    rules = RulesKeeper(log, clock)
    lanes, table = NatsLanes(connection, settings.workspace), HostTable(settings.hosts)
    try:
        await rules.start()
        await rules.require_source(source)
        await table.start(lanes)
        worker = IngestWorker(
            queue,
            faults,
            router=CommandRouter(
                log,
                PartedLane(lanes, table),
                placement=Placement(settings.hosts),
                clock=SystemClock(),
                table=table,
            ),
            decode=LineDecoder(source, build_normaliser(settings, rules), lambda: rules.rules),
            clock=clock,
            subject_prefix=f"koseki.{settings.workspace}.ingest",
            limits=LIMITS,
            auth_id=AUTH_ID,
        )
        working = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.gather(working, return_exceptions=True)
    finally:
        await table.close()
        await lanes.close()
        await rules.close()
        await clock.close()
        await log.close()
        await connection.close()
