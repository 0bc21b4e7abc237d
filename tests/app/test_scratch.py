"""A long log is folded into a folder that is gone afterwards: the same is found as in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import pytest

from app.scratch import scratch_for
from eventlog.errors import LogDamaged
from eventlog.port import EventLog
from projections.fold import fold_batch
from projections.memory import MemoryTables
from replay.fold import fold_into, fold_log
from replay.verify import verify
from tests.projections.histories import ListedLog, random_history

TABLE = "tallies"


@pytest.fixture(autouse=True)
def _everything_is_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("app.scratch.IN_MEMORY_EVENTS_MAX", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def lying(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_rows_that_differ_are_named_as_by_a_fold_in_memory(tmp_path: Path) -> None:
    history = random_history(8, events=400, records=20)
    log = cast("EventLog", ListedLog(history.entries))
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    assert (await verify(log, tables, scratch=scratch_for)).holds
    transaction, kept = tables.begin(), tables.checkpoint
    for key, row in list(tables.scan(TABLE, b""))[:3]:
        transaction.put(TABLE, key, {**row, "count": 10_000})
    transaction.delete(TABLE, list(tables.scan(TABLE, b""))[5][0])
    transaction.commit(
        revision=kept.revision, event_digest=kept.event_digest, log_digest=kept.log_digest
    )
    found = await verify(log, tables, scratch=scratch_for)
    assert found.divergences == 4  # as many as were changed
    assert found == await verify(log, tables)
    assert not lying(tmp_path)


async def test_a_log_that_breaks_leaves_no_folder_behind(tmp_path: Path) -> None:
    history = random_history(8, events=60, records=5)
    log = cast("EventLog", ListedLog(history.entries))
    with pytest.raises(LogDamaged), scratch_for(log, 1_000) as rows:
        await fold_into(log, rows, through_revision=1_000)
    assert not lying(tmp_path)
    with scratch_for(log, 60) as rows:
        await fold_into(log, rows)
        assert rows.checkpoint == (await fold_log(log)).checkpoint
        assert lying(tmp_path)
