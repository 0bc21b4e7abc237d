"""A read side made anew beside the one that serves: same digest, no read that fails, no restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eventlog.port import Entry
from projections.errors import ReadSideNotReady, ReadSideOutdated, StoreFailed
from projections.fold import fold_batch
from projections.generations import rebuilding_folder, request_rebuild, serving_folder
from projections.memory import MemoryTables
from projections.read_side import ReadSide
from projections.rows import OpenRows
from projections.segments.definitions import SEGMENT_RULES
from projections.store import Store
from projections.tables import Checkpoint
from tests.projections.growing import GrowingLog
from tests.projections.histories import batches, random_history
from tests.support.waiting import until

WAIT_SECONDS = 30.0
SEED, EVENTS, MANY_EVENTS = 3, 2_000, 6_000


class LaggingLog(GrowingLog):
    """A log whose later events take their time to whoever reads it from the beginning."""

    def __init__(self, entries: Sequence[Entry], *, ready: int) -> None:
        super().__init__(entries)
        self.ready = ready

    def ready_after(self, revision: int) -> list[Entry]:
        """Give what is ready."""
        return list(self.entries[revision : self.ready])


def folded(entries: Sequence[Entry]) -> Checkpoint:
    tables = MemoryTables()
    return fold_batch(tables, entries)


@asynccontextmanager
async def running(read_side: ReadSide) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(read_side.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def prepared(path: Path, entries: Sequence[Entry]) -> None:
    store = Store.open_writer(path)
    for batch in batches(entries, 200):
        fold_batch(store, batch)
    store.close()


async def test_a_rebuild_under_load_equals_the_running_one_and_no_read_goes_back(
    tmp_path: Path,
) -> None:
    entries = random_history(SEED, events=EVENTS, records=40).entries
    parts = list(batches(entries, 100))
    log = GrowingLog(parts[0])
    read_side = ReadSide(log.log, tmp_path, OpenRows())
    async with running(read_side) as task:
        served = _elsewhere(tmp_path)
        folder = request_rebuild(tmp_path)
        for part in parts[1:]:
            log.grow(part)
            await asyncio.sleep(0.01)
        await until(lambda: task.done() or rebuilding_folder(tmp_path) is None)
        assert serving_folder(tmp_path) == folder
        await until(lambda: read_side.checkpoint.revision == entries[-1].revision)
    assert read_side.checkpoint == folded(entries)
    seen = [int(line) for line in served.communicate(timeout=WAIT_SECONDS)[0].split()]
    assert served.returncode == 0
    assert seen == sorted(seen)
    assert seen[-1] == entries[-1].revision


def _elsewhere(path: Path) -> subprocess.Popen[str]:
    """Read in another process, on one store that is never opened again, until all was seen."""
    last = random_history(SEED, events=EVENTS, records=40).entries[-1].revision
    script = f"""
import time
from pathlib import Path
from projections.errors import ReadSideNotReady
from projections.store import Store
while True:
    try:
        store = Store.open_reader(Path({str(path)!r}))
        break
    except ReadSideNotReady:
        time.sleep(0.01)
deadline = time.monotonic() + {WAIT_SECONDS}
while time.monotonic() < deadline:
    revision = store.checkpoint.revision
    print(revision)
    if revision == {last} and (Path({str(path)!r}) / "serving").exists():
        raise SystemExit(0)
    time.sleep(0.003)
raise SystemExit(1)
"""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_a_reader_changes_over_and_what_it_was_reading_stays(tmp_path: Path) -> None:
    entries = random_history(SEED, events=400, records=60).entries
    prepared(tmp_path, entries)
    reader = Store.open_reader(tmp_path)
    with reader.snapshot() as before:
        request_rebuild(tmp_path)
        rebuild_elsewhere(tmp_path, 400)
        assert not (tmp_path / "data.mdb").exists()
        rows = list(before.scan("counts", b""))
        with reader.snapshot() as after:
            assert list(after.scan("counts", b"")) == rows
            assert after.checkpoint == before.checkpoint
    reader.close()


def rebuild_elsewhere(path: Path, events: int) -> None:
    """Let a process finish the rebuild that was asked for."""
    subprocess.run(_rebuilding(path, events), check=True, timeout=WAIT_SECONDS)


def _rebuilding(path: Path, events: int) -> list[str]:
    arguments = [str(path), str(SEED), str(events)]
    return [sys.executable, "-m", "tests.projections.rebuilding", *arguments]


def test_a_rebuild_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    entries = random_history(SEED, events=EVENTS, records=60).entries
    prepared(tmp_path, entries)
    folder = request_rebuild(tmp_path)
    seen = [0]
    for _ in range(3):
        with subprocess.Popen(
            _rebuilding(tmp_path, EVENTS), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().isdecimal() and int(line) > seen[-1]:
                    seen.append(int(line))
                    break
            process.kill()
    rebuild_elsewhere(tmp_path, EVENTS)
    assert serving_folder(tmp_path) == folder
    store = Store.open_reader(tmp_path)
    assert store.checkpoint == folded(entries)
    store.close()


def spoil(path: Path) -> None:
    """Write over what every look at the rules reads: a projector over it fails in each start."""
    store = Store.open_writer(path)
    with store.snapshot() as tables:
        key, _ = next(tables.scan_stored(SEGMENT_RULES, b""))
    at, transaction = store.checkpoint, store.begin()
    transaction.store(SEGMENT_RULES, key, b"spoilt")
    transaction.commit(revision=at.revision, event_digest=at.event_digest, log_digest=at.log_digest)
    store.close()


async def test_a_rebuild_ends_though_the_old_generation_fails_in_each_start(
    tmp_path: Path,
) -> None:
    entries = random_history(SEED, events=MANY_EVENTS, records=60).entries
    prepared(tmp_path, entries)
    spoil(tmp_path)
    damaged = ReadSide(GrowingLog(entries).log, tmp_path, OpenRows())
    with pytest.raises(ValueError, match="JSON"):
        await asyncio.wait_for(damaged.run(), WAIT_SECONDS)
    folder = request_rebuild(tmp_path)
    rebuild_elsewhere(tmp_path, MANY_EVENTS)
    assert serving_folder(tmp_path) == folder
    store = Store.open_reader(tmp_path)
    assert store.checkpoint == folded(entries)
    store.close()


async def test_rows_of_a_damaged_generation_are_read_until_the_new_one_has_come_as_far(
    tmp_path: Path,
) -> None:
    entries = random_history(SEED, events=400, records=60).entries
    prepared(tmp_path, entries)
    spoil(tmp_path)
    first = next(iter(batches(entries, 200)))
    log = LaggingLog(entries, ready=len(first))
    read_side = ReadSide(log.log, tmp_path, OpenRows())
    request_rebuild(tmp_path)
    with capture_logs() as said:
        async with running(read_side) as task:
            await until(lambda: task.done() or read_side.rebuilt_to == first[-1].revision)
            await until(lambda: task.done() or any(_tells_of_old(line) for line in said))
            assert (task.done(), serving_folder(tmp_path)) == (False, tmp_path)
            assert read_side.checkpoint.revision == entries[-1].revision
            log.ready = len(entries)
            await until(lambda: task.done() or rebuilding_folder(tmp_path) is None)
            assert read_side.checkpoint == folded(entries)


def _tells_of_old(line: Mapping[str, object]) -> bool:
    return line["event"] == "old_generation_failed" and line["error"] == "JSONDecodeError"


async def test_a_generation_that_cannot_be_opened_is_made_anew_when_asked(tmp_path: Path) -> None:
    entries = random_history(SEED, events=200, records=60).entries
    prepared(tmp_path, entries)
    (tmp_path / "data.mdb").write_bytes(b"x" * 100_000)
    with pytest.raises(StoreFailed):
        ReadSide(GrowingLog(entries).log, tmp_path, OpenRows())
    folder = request_rebuild(tmp_path)
    rebuild_elsewhere(tmp_path, 200)
    assert serving_folder(tmp_path) == folder


async def test_rows_of_another_schema_are_made_again_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = random_history(SEED, events=300, records=60).entries
    with monkeypatch.context() as patched:
        patched.setattr("projections.store.SCHEMA_VERSION", 0)
        prepared(tmp_path, entries)
    with pytest.raises(ReadSideOutdated):
        Store.open_reader(tmp_path)
    read_side = ReadSide(GrowingLog(entries).log, tmp_path, OpenRows())
    async with running(read_side):
        await until(lambda: serving_folder(tmp_path) != tmp_path)
    store = Store.open_reader(tmp_path)
    assert store.checkpoint == folded(entries)
    store.close()


def test_a_swap_that_died_half_way_is_finished_at_the_next_start(tmp_path: Path) -> None:
    entries = random_history(SEED, events=200, records=60).entries
    prepared(tmp_path, entries)
    folder = request_rebuild(tmp_path)
    asked = (tmp_path / "rebuilding").read_text()
    rebuild_elsewhere(tmp_path, 200)
    (tmp_path / "rebuilding").write_text(asked)  # died before the request was taken away
    ReadSide(GrowingLog(entries).log, tmp_path, OpenRows())
    assert rebuilding_folder(tmp_path) is None
    assert serving_folder(tmp_path) == folder


def test_nothing_is_ready_where_no_generation_was_made(tmp_path: Path) -> None:
    request_rebuild(tmp_path)
    with pytest.raises(ReadSideNotReady):
        Store.open_reader(tmp_path)
