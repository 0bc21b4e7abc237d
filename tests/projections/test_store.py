"""The store: what was committed is there, whatever dies, and readers see whole batches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from eventlog.errors import LogDamaged
from projections import store as store_module
from projections.errors import (
    CheckpointMoved,
    ReadSideNotReady,
    ReadSideOutdated,
    StoreFailed,
)
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.store import Store, WritableStore
from projections.tables import Checkpoint
from tests.projections.histories import History, batches, random_history, record_id, signal

ROOT = Path(__file__).parents[2]
EVENTS, SEED, BATCH_EVENTS = 3_000, 5, 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WritableStore]:
    opened = Store.open_writer(tmp_path / "read")
    yield opened
    opened.close()


def in_memory(history: History) -> MemoryTables:
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    return tables


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.projections.{module}", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_rows_and_checkpoint_survive_a_restart(tmp_path: Path) -> None:
    history = random_history(3, events=500, records=20)
    middle = next(entry.revision for entry in history.entries[250:] if entry.ends_append)
    for part in (history.entries[:middle], history.entries[middle:]):
        opened = Store.open_writer(tmp_path)
        for batch in batches(part, 7):
            fold_batch(opened, batch)
        opened.close()
    opened = Store.open_writer(tmp_path)
    expected = in_memory(history)
    assert opened.checkpoint == expected.checkpoint
    with opened.snapshot() as snapshot:
        assert list(snapshot.scan("tallies", b"")) == list(expected.scan("tallies", b""))
        assert snapshot.get("tallies", b"nobody") is None
        prefix = record_id(3).encode()
        assert list(snapshot.scan("tallies", prefix)) == list(expected.scan("tallies", prefix))
    opened.close()


def test_a_batch_that_fails_leaves_nothing(store: WritableStore) -> None:
    history = random_history(3, events=50, records=5)
    transaction = store.begin()
    transaction.put("profiles", b"someone", {"traits": {}})
    transaction.abort()
    with pytest.raises(LogDamaged):
        fold_batch(store, [*history.entries[:5], *history.entries[6:]])
    assert store.checkpoint == Checkpoint()
    with store.snapshot() as snapshot:
        assert list(snapshot.scan("profiles", b"")) == []


def test_the_checkpoint_is_that_of_the_last_commit_and_the_same_object_until_the_next(
    store: WritableStore,
) -> None:
    seen = store.checkpoint
    for revision in (1, 2, 3):
        for is_given_up in (True, False):
            begun = store.begin()
            begun.put("profiles", b"someone", {"revision": revision})
            with store.snapshot() as snapshot:  # in the middle of a transaction
                assert snapshot.checkpoint is store.checkpoint is seen
            if is_given_up:
                begun.abort()
            else:
                begun.commit(revision=revision, event_digest=bytes(32), log_digest=bytes(32))
        with store.snapshot() as snapshot:
            seen = snapshot.checkpoint
        assert seen is store.checkpoint
        assert seen.revision == revision


def test_a_transaction_sees_what_it_changed(store: WritableStore) -> None:
    first = store.begin()
    for key in (b"a1", b"a2", b"b1"):
        first.put("profiles", key, {"key": key.decode()})
    first.commit(revision=1, event_digest=bytes(32), log_digest=bytes(32))
    second = store.begin()
    second.delete("profiles", b"a1")
    second.put("profiles", b"a3", {"key": "a3"})
    assert second.get("profiles", b"a1") is None
    assert [key for key, _ in second.scan("profiles", b"a")] == [b"a2", b"a3"]
    for key in (b"a2", b"a3", b"b1"):
        second.delete("profiles", key)
    empty = second.commit(revision=2, event_digest=bytes(32), log_digest=bytes(32))
    assert empty.rows_digest == bytes(32)


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_room_made_in_a_transaction_changes_nothing_but_memory(
    store: WritableStore, *, is_on_disk: bool
) -> None:
    rows = store if is_on_disk else MemoryTables()
    whole = MemoryTables()
    for begun, makes_room in ((whole.begin(), False), (rows.begin(), True)):
        for number in range(9):
            key = str(number % 5).encode()
            row = begun.get("profiles", key)
            begun.put("profiles", key, {"seen": 1 if row is None else row["seen"] + 1})
            begun.store("segment_members", key, str(number).encode())
            if makes_room and number % 2:
                begun.make_room()
        begun.delete("profiles", b"3")
        found = [key for key, _ in begun.scan("profiles", b"")]
        assert found == [b"0", b"1", b"2", b"4"]
        assert begun.load("segment_members", b"3") == b"8"
        begun.commit(revision=1, event_digest=bytes(32), log_digest=bytes(32))
    assert rows.checkpoint == whole.checkpoint
    undone = rows.begin()
    undone.put("profiles", b"0", {"seen": 7})
    undone.make_room()
    undone.delete("profiles", b"0")
    undone.put("profiles", b"new", {"seen": 7})
    undone.make_room()
    assert undone.get("profiles", b"0") is None
    undone.abort()
    again = rows.begin()
    assert list(again.scan("profiles", b"")) == list(whole.scan("profiles", b""))
    again.abort()


def test_a_second_projector_is_stopped_by_the_checkpoint(store: WritableStore) -> None:
    history = random_history(3, events=50, records=5)
    fold_batch(store, history.entries)
    with pytest.raises(CheckpointMoved):
        fold_batch(store, history.entries)


def test_a_read_side_that_nobody_made_is_not_ready(tmp_path: Path) -> None:
    with pytest.raises(ReadSideNotReady):
        Store.open_reader(tmp_path / "read")


def test_a_read_side_that_is_being_made_is_not_ready(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path), max_dbs=1).close()
    with pytest.raises(ReadSideNotReady):
        Store.open_reader(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"")
    with pytest.raises(ReadSideNotReady):
        Store.open_reader(tmp_path)


def test_rows_of_another_schema_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open_writer(tmp_path).close()
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", 10_000)
    for open_store in (Store.open_reader, Store.open_writer):
        with pytest.raises(ReadSideOutdated):
            open_store(tmp_path)


def test_a_killed_projector_resumes_to_the_same_digest(tmp_path: Path) -> None:
    arguments = (tmp_path, SEED, EVENTS, BATCH_EVENTS)
    for commits in (1, 7, 3, 12):
        process = start("projecting", *arguments)
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(commits)]
        assert all(seen)
        process.kill()
        process.communicate()
    process = start("projecting", *arguments)
    process.communicate(timeout=60)
    assert process.returncode == 0
    opened = Store.open_reader(tmp_path)
    expected = in_memory(random_history(SEED, events=EVENTS, records=60))
    assert opened.checkpoint == expected.checkpoint
    opened.close()


def test_a_reader_in_another_process_sees_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "read"
    reader = start("reading", path)
    assert ask(reader) == "READ_SIDE_NOT_READY"
    opened = Store.open_writer(path)
    history = History()
    for number in range(300):
        history.signals(number % 7, signal(f"{number}a"), signal(f"{number}b"))
    for batch in batches(history.entries, 20):
        transaction = opened.begin()
        transaction.put("signals", b"unseen", {})
        assert ask(reader) == f"{opened.checkpoint.revision} {2 * opened.checkpoint.revision}"
        transaction.abort()
        fold_batch(opened, batch)
    assert ask(reader) == "300 600"
    reader.communicate()
    opened.close()


def test_a_reader_follows_a_map_that_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as small:
        small.setattr(store_module, "MAP_BYTES_MAX", 1 << 20)
        opened = Store.open_writer(tmp_path)
        opened.close()
        reader = start("reading", tmp_path)
        assert ask(reader) == "0 0"
    opened = Store.open_writer(tmp_path)
    history = random_history(3, events=9_000, records=50)
    fold_batch(opened, history.entries)
    assert (tmp_path / "data.mdb").stat().st_size > 1 << 20
    assert ask(reader).startswith(f"{opened.checkpoint.revision} ")
    reader.communicate()
    opened.close()


def test_a_read_that_failed_keeps_no_place_among_the_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "READERS_MAX", 8)
    opened = Store.open_writer(tmp_path)
    kept = []
    for _ in range(20):
        # With its traceback, as a server keeps one with its call.
        with pytest.raises(ZeroDivisionError) as found, opened.snapshot() as snapshot:
            assert 1 // snapshot.checkpoint.revision
        kept.append(found)
    opened.close()


def test_the_places_of_readers_that_were_killed_are_taken_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "READERS_MAX", 8)
    opened = Store.open_writer(tmp_path)
    holding = start("holding", tmp_path)
    assert holding.stdout is not None
    assert 0 < int(holding.stdout.readline()) <= 8
    with pytest.raises(StoreFailed), opened.snapshot():
        pass
    holding.kill()
    holding.communicate()
    with opened.snapshot() as snapshot:
        assert snapshot.checkpoint == Checkpoint()
    opened.close()


def ask(reader: subprocess.Popen[str]) -> str:
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("\n")
    reader.stdin.flush()
    return reader.stdout.readline().strip()
