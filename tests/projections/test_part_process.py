"""Processes that fold parts of large batches: the same rows, whatever becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal as signals
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import psutil
import pytest

from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.port import Entry, EventLog
from projections import backlog, part_process, runner
from projections.dealing import Division
from projections.fold import SEALED, Rows, fold_batch
from projections.generations import serving_folder
from projections.part_process import PartProcess, PartProcesses
from projections.parts import Dealt, PartFolder, SnapshotRows, fold_dealt
from projections.row_keys import RowKeys
from projections.rows import RowCodec, SealedRows
from projections.runner import Projector
from projections.store import Store
from projections.tables import Checkpoint
from tests.projections.histories import History, ListedLog, signal
from tests.projections.test_parts import long_world

START_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.01
PEOPLE, STEPS, BATCH_EVENTS = 60, 900, 150


@pytest.fixture(autouse=True)
def smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "BATCH_EVENTS_MAX", BATCH_EVENTS)
    monkeypatch.setattr(runner, "READ_EVENTS_MAX", 50)
    monkeypatch.setattr(runner, "DEALT_EVENTS_MIN", 50)
    monkeypatch.setattr(backlog, "DEALT_EVENTS_MIN", 50)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches that were folded whole."""
    folded: list[int] = []

    def counting(rows: Rows, entries: Sequence[Entry]) -> Checkpoint:
        folded.append(len(entries))
        return fold_batch(rows, entries)

    monkeypatch.setattr(runner, "fold_batch", counting)
    return folded


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return long_world(5, people=PEOPLE, steps=STEPS)


@pytest.fixture(scope="module")
def wanted(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What one fold of everything comes to."""
    return in_one(tmp_path_factory.mktemp("wanted"), entries)


class Folding:
    """A store with its processes."""

    def __init__(self, path: Path, *, processes: int, codec: RowCodec | None = None) -> None:
        self.store = Store.open_writer(path, codec)
        self.beside = PartProcesses(self.store, serving_folder(path), processes)

    async def ready(self) -> list[psutil.Process]:
        before = {child.pid for child in psutil.Process().children()}
        async with asyncio.timeout(START_SECONDS_MAX):
            while not self.beside.are_ready():  # noqa: ASYNC110  # it is asked
                await asyncio.sleep(LOOK_SECONDS)
        return [child for child in psutil.Process().children() if child.pid not in before]

    async def fold(self, entries: Sequence[Entry]) -> Checkpoint:
        log = cast("EventLog", ListedLog(entries))
        await Projector(log, self.store, beside=self.beside).run()
        return self.store.checkpoint


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Folding]:
    made = Folding(tmp_path / "read", processes=2)
    yield made
    made.beside.close()
    made.store.close()


def in_one(path: Path, entries: Sequence[Entry], codec: RowCodec | None = None) -> Checkpoint:
    store = Store.open_writer(path, codec)
    try:
        return fold_batch(store, entries)
    finally:
        store.close()


@pytest.mark.parametrize("processes", [2, 3])
async def test_large_batches_are_folded_with_others(
    tmp_path: Path, entries: list[Entry], wanted: Checkpoint, whole: list[int], processes: int
) -> None:
    folding = Folding(tmp_path / "read", processes=processes)
    started = await folding.ready()
    assert await folding.fold(entries) == wanted
    assert sum(whole) < len(entries) / 2
    assert not any(child.is_running() for child in started)
    folding.store.close()


async def test_sealed_rows_need_no_keys_of_their_own(
    tmp_path: Path, entries: list[Entry], whole: list[int]
) -> None:
    ring = KeyRing(MemoryKeyStore())
    records = {entry.stream.key for entry in entries if entry.stream.kind == "record"}
    await ring.ensure(known=(), new=records)  # type: ignore[arg-type]  # ids of the test's records
    codecs = [SealedRows(SEALED, RowKeys(ring), index_key=b"index") for _ in range(2)]
    folding = Folding(tmp_path / "read", processes=2, codec=codecs[0])
    await folding.ready()
    assert await folding.fold(entries) == in_one(tmp_path / "one", entries, codecs[1])
    assert sum(whole) < len(entries) / 2
    folding.store.close()


async def test_a_process_that_is_killed_is_done_without_and_comes_again(
    folding: Folding,
    entries: list[Entry],
    wanted: Checkpoint,
    whole: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(part_process, "RESTART_SECONDS", 0.0)
    child, _ = await folding.ready()
    running = asyncio.create_task(folding.fold(entries))
    await until_read(folding, 400)
    child.kill()
    assert await running == wanted
    assert whole


async def test_the_others_go_on_without_one_that_was_killed(
    tmp_path: Path, entries: list[Entry], wanted: Checkpoint, whole: list[int]
) -> None:
    folding = Folding(tmp_path / "read", processes=3)
    child, *_ = await folding.ready()
    child.kill()
    assert await folding.fold(entries) == wanted
    assert 0 < sum(whole) < len(entries) / 2
    folding.store.close()


async def test_a_batch_is_divided_while_the_one_before_is_folded(
    folding: Folding, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    divide = PartProcesses.divide

    def dividing(beside: PartProcesses, batch: Sequence[Entry]) -> Division | None:
        happened.append("divided")
        return divide(beside, batch)

    def folding_dealt(
        rows: SnapshotRows, dealt: Dealt, folders: Sequence[PartFolder]
    ) -> Checkpoint | None:
        happened.append("begun")
        checkpoint = fold_dealt(rows, dealt, folders)
        happened.append("ended")
        return checkpoint

    monkeypatch.setattr(PartProcesses, "divide", dividing)
    monkeypatch.setattr(part_process, "fold_dealt", folding_dealt)
    await folding.ready()
    await folding.fold(entries)
    assert ["begun", "divided", "ended"] in [happened[n : n + 3] for n in range(len(happened))]


def go_on_with_signals(history: History, events: int) -> list[Entry]:
    """Let nobody become one customer with anybody: each batch is divided once."""
    for number in range(events):
        history.signals(number % PEOPLE, signal(f"m{number}"))
    return history.entries


async def test_what_is_folded_next_is_given_before_its_task(
    folding: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: defaultdict[PartProcess, list[str]] = defaultdict(list)
    send, begin = PartProcess._send, PartProcess.begin

    def sending(process: PartProcess, message: bytes) -> None:
        if message == part_process._SHARE:
            happened[process].append("given")
        send(process, message)

    def beginning(process: PartProcess, share: bytes, task: bytes) -> None:
        happened[process].append("begins")
        begin(process, share, task)
        happened[process].append("has begun")

    monkeypatch.setattr(PartProcess, "_send", sending)
    monkeypatch.setattr(PartProcess, "begin", beginning)
    await folding.ready()
    await folding.fold(go_on_with_signals(History(), BATCH_EVENTS * 6))
    assert len(happened) == 2
    for steps in happened.values():
        assert ("begins", "has begun") in pairwise(steps)
        assert steps.count("given") == steps.count("begins")


async def test_only_what_must_be_is_folded_whole(folding: Folding, whole: list[int]) -> None:
    history = History()
    history.signals(0, signal("the first"))
    history.rules()
    until_rules = len(history.entries)
    entries = go_on_with_signals(history, BATCH_EVENTS * 3)
    await folding.ready()
    checkpoint = await folding.fold(entries)
    assert whole == [until_rules]
    assert checkpoint.revision == len(entries)


async def test_one_process_alone_is_not_started(
    tmp_path: Path, entries: list[Entry], wanted: Checkpoint, whole: list[int]
) -> None:
    folding = Folding(tmp_path / "read", processes=1)
    assert await folding.ready() == []
    assert await folding.fold(entries) == wanted
    assert sum(whole) == len(entries)
    folding.store.close()


async def test_a_process_that_answers_no_more_is_ended(
    folding: Folding,
    entries: list[Entry],
    wanted: Checkpoint,
    whole: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(part_process, "PART_SECONDS_MAX", 0.5)
    child, _ = await folding.ready()
    os.kill(child.pid, signals.SIGSTOP)
    assert await folding.fold(entries) == wanted
    assert whole
    assert not child.is_running()


async def until_read(folding: Folding, revision: int) -> None:
    async with asyncio.timeout(START_SECONDS_MAX):
        while folding.store.checkpoint.revision < revision:  # noqa: ASYNC110  # LMDB is asked
            await asyncio.sleep(LOOK_SECONDS)
