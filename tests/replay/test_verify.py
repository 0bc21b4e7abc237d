"""Verification: a read side that equals the log is proved, any other is told apart and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from eventlog.port import EventLog
from projections.fold import TABLES, fold_batch
from projections.memory import MemoryTables
from projections.rows import Row
from projections.store import Store
from projections.tables import Checkpoint
from replay.fold import Progress
from replay.sharing import Refolded
from replay.verify import RefoldFailed, Verification, verify
from tests.projections.histories import History, ListedLog, batches, random_history
from tests.replay.test_shares import in_shares

Change = Callable[[MemoryTables, bytes], None]
TABLE = "tallies"


@pytest.fixture
def history() -> History:
    return random_history(8, events=600, records=20)


async def verified(history: History, tables: MemoryTables, **faults: int) -> Verification:
    log = cast("EventLog", ListedLog(history.entries, faults=faults))
    return await verify(log, tables)


def folded(history: History) -> MemoryTables:
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    return tables


def write(tables: MemoryTables, key: bytes, row: Row | None, *, is_digested: bool) -> None:
    """Change a row behind the projector's back, with its digest kept up or not."""
    kept = tables.checkpoint
    transaction = tables.begin()
    if row is None:
        transaction.delete(TABLE, key)
    else:
        transaction.put(TABLE, key, row)
    changed = transaction.commit(
        revision=kept.revision, event_digest=kept.event_digest, log_digest=kept.log_digest
    )
    rows_digest = changed.rows_digest if is_digested else kept.rows_digest
    tables.commit({}, replace(kept, rows_digest=rows_digest))


async def test_a_store_that_equals_the_log_is_proved(history: History, tmp_path: Path) -> None:
    store = Store.open_writer(tmp_path)
    middle = next(entry.revision for entry in history.entries[400:] if entry.ends_append)
    for batch in batches(history.entries[:middle], 50):
        fold_batch(store, batch)
    log = cast("EventLog", ListedLog(history.entries))
    with store.snapshot() as snapshot:
        found = await verify(log, snapshot)
        rows = sum(1 for table in TABLES for _ in snapshot.scan(table, b""))
    store.close()
    assert found.holds
    assert found.checkpoint == found.replayed
    assert found.checkpoint.revision == middle
    assert found.rows_compared == rows


def last_changed(history: History, key: bytes) -> int:
    """Fold the whole log append by append, and look at the row after each."""
    tables, at, known = MemoryTables(), 0, None
    for append in batches(history.entries, 1):
        fold_batch(tables, append)
        row = tables.get(TABLE, key)
        if row != known:
            at, known = append[-1].revision, row
    return at


async def test_the_first_divergence_is_the_earliest_with_its_record_and_event(
    history: History,
) -> None:
    tables = folded(history)
    keys = [key for key, _ in tables.scan(TABLE, b"")][:12]
    since = {key: last_changed(history, key) for key in keys}
    for key in keys:
        row = tables.get(TABLE, key)
        assert row is not None
        write(tables, key, {**row, "count": 10_000}, is_digested=False)
    found = await verified(history, tables)
    assert (found.divergences, found.first is None) == (len(keys), False)
    assert found.first is not None
    earliest = min(since.values())
    assert (found.first.revision, since[found.first.key.encode()]) == (earliest, earliest)
    assert found.first.record == found.first.key.partition("/")[0]
    assert found.first.fields == ("count",)


async def test_an_empty_read_side_equals_an_empty_log() -> None:
    assert (await verified(History(), MemoryTables())).holds


async def test_a_changed_row_is_named_with_what_differs(history: History) -> None:
    tables = folded(history)
    key, row = next(tables.scan(TABLE, b""))
    write(tables, key, {**row, "count": 10_000}, is_digested=True)
    found = await verified(history, tables)
    assert found.first is not None
    assert (found.first.table, found.first.key) == (TABLE, key.decode())
    assert (found.first.difference, found.first.fields) == ("different", ("count",))
    assert (found.divergences, found.faults) == (1, ["rows_digest"])
    assert not found.holds


async def test_a_changed_row_is_found_though_the_kept_digest_is_right(history: History) -> None:
    tables = folded(history)
    key, row = next(tables.scan(TABLE, b""))
    write(tables, key, {**row, "count": 10_000}, is_digested=False)
    found = await verified(history, tables)
    assert (found.divergences, found.faults) == (1, ["rows_changed"])


async def test_missing_and_unexpected_rows_are_told_apart(history: History) -> None:
    tables = folded(history)
    key, _ = next(tables.scan(TABLE, b""))
    write(tables, key, None, is_digested=True)
    missing = await verified(history, tables)
    assert missing.first is not None
    assert missing.first.difference == "missing"
    write(tables, b"zzz", {}, is_digested=True)
    both = await verified(history, tables)
    assert both.divergences == 2
    tables = folded(history)
    write(tables, b"zzz", {}, is_digested=True)
    unexpected = await verified(history, tables)
    assert unexpected.first is not None
    assert unexpected.first.difference == "unexpected"


@pytest.mark.parametrize("name", ["event_digest", "log_digest", "rows_digest"])
async def test_a_digest_that_differs_is_named(history: History, name: str) -> None:
    tables = folded(history)
    kept = tables.checkpoint
    digests = {"event_digest": kept.event_digest, "log_digest": kept.log_digest}
    digests = {**digests, "rows_digest": kept.rows_digest, name: b"x" * 32}
    tables.commit({}, Checkpoint(kept.revision, **digests))
    assert name in (await verified(history, tables)).faults


async def test_a_damaged_log_proves_nothing(history: History) -> None:
    tables = folded(history)
    assert (await verified(history, tables, deleted=1)).faults == ["log_damaged"]
    del history.entries[-1]
    found = await verified(history, tables)
    assert found.faults == ["log_damaged"]
    assert found.log_fault
    assert not found.holds


async def in_two_shares(history: History, tables: MemoryTables) -> tuple[Verification, list[int]]:
    """Verify with a fold in shares; also give what a single fold told of its progress."""
    single: list[int] = []

    async def refold(revision: int, _: Progress) -> Refolded:
        checkpoint, rows = await in_shares(history.entries[:revision], 2)
        return Refolded(checkpoint, rows, ())

    log = cast("EventLog", ListedLog(history.entries))
    return await verify(log, tables, refold=refold, progress=single.append), single


async def test_a_fold_in_shares_proves_what_a_single_fold_does(history: History) -> None:
    tables = folded(history)
    found, single = await in_two_shares(history, tables)
    assert (found.holds, single, found.replayed) == (True, [], tables.checkpoint)
    assert found.rows_compared == (await verified(history, tables)).rows_compared


async def test_what_a_fold_in_shares_finds_a_single_fold_names(history: History) -> None:
    for is_digested in (True, False):
        tables = folded(history)
        key, row = next(tables.scan(TABLE, b""))
        write(tables, key, {**row, "count": 10_000}, is_digested=is_digested)
        found, single = await in_two_shares(history, tables)
        assert found.first is not None
        assert (found.first.key, bool(single)) == (key.decode(), True)
        assert not found.is_folded_in_shares


async def test_a_fold_in_shares_that_fails_leaves_the_proof_to_a_single_one(
    history: History,
) -> None:
    async def refold(_revision: int, _: Progress) -> Refolded:
        raise RefoldFailed("a process died")

    log = cast("EventLog", ListedLog(history.entries))
    assert (await verify(log, folded(history), refold=refold)).holds
