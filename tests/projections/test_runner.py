"""The projector: from the log to rows, stopping for damage, resuming where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from domain.consent import LawfulBasis
from domain.ids import WORKSPACE_STREAM
from domain.workspace_events import PurposeDefined
from eventlog.errors import LogDamaged
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Attempt, Draft, EventLog, Head, Stored
from projections.errors import PoisonEvent
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.rules import read_rules
from projections.runner import Projector
from projections.store import Store, WritableStore
from tests.projections.histories import History, ListedLog, random_history

WAIT_SECONDS = 10.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WritableStore]:
    opened = Store.open_writer(tmp_path / "read")
    yield opened
    opened.close()


def listed(history: History, events: int | None = None, **faults: int) -> EventLog:
    return cast("EventLog", ListedLog(history.entries[:events], faults=faults))


def whole(history: History, at_least: int) -> int:
    return next(e.revision for e in history.entries[at_least:] if e.ends_append)


async def test_it_folds_the_log_to_its_end(store: WritableStore) -> None:
    history = random_history(2, events=2_500, records=40)
    await Projector(listed(history), store).run()
    expected = MemoryTables()
    fold_batch(expected, history.entries)
    assert store.checkpoint == expected.checkpoint


async def test_a_restart_in_the_middle_gives_the_same_digest(store: WritableStore) -> None:
    history = random_history(4, events=1_500, records=40)
    await Projector(listed(history, whole(history, 700)), store).run()
    await Projector(listed(history), store).run()
    expected = MemoryTables()
    fold_batch(expected, history.entries)
    assert store.checkpoint == expected.checkpoint


async def test_the_checkpoint_waits_for_the_end_of_an_append(store: WritableStore) -> None:
    history = History()
    history.rules()
    history.merge(1, 2)
    for number in (3, 4):
        history.merge(1, number)
    last = len(history.entries)
    await Projector(listed(history, last - 1), store).run()
    assert store.checkpoint.revision == last - 4
    await Projector(listed(history), store).run()
    assert store.checkpoint.revision == last


async def test_an_append_is_folded_whole_across_reads(
    store: WritableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.runner.READ_EVENTS_MAX", 3)
    monkeypatch.setattr("projections.backlog.BATCH_EVENTS_MAX", 4)
    history = random_history(6, events=300, records=10)
    await Projector(listed(history), store).run()
    expected = MemoryTables()
    fold_batch(expected, history.entries)
    assert store.checkpoint == expected.checkpoint


async def test_a_log_that_lost_its_end_stops_it(store: WritableStore) -> None:
    history = random_history(4, events=100, records=5)
    await Projector(listed(history), store).run()
    with pytest.raises(LogDamaged):
        await Projector(listed(history, 50), store).run()


async def test_another_event_at_the_checkpoint_stops_it(store: WritableStore) -> None:
    history = random_history(4, events=100, records=5)
    await Projector(listed(history), store).run()
    history.entries[-1] = replace(history.entries[-1], digest=bytes(32))
    with pytest.raises(LogDamaged):
        await Projector(listed(history), store).run()


async def test_a_shape_that_does_not_hold_stops_it(store: WritableStore) -> None:
    history = random_history(4, events=100, records=5)
    with pytest.raises(LogDamaged):
        await Projector(listed(history, lost=1), store).run()
    assert store.checkpoint.revision == 0


async def test_a_poison_workspace_event_stops_it(store: WritableStore) -> None:
    history = History()
    history.rules()
    history.spoil(3)
    with pytest.raises(PoisonEvent):
        await Projector(listed(history), store).run()
    assert store.checkpoint.revision == 0


async def test_a_lone_event_is_folded_as_soon_as_it_comes(store: WritableStore) -> None:
    log = MemoryEventLog("test")
    projector = Projector(log, store)
    running = asyncio.create_task(projector.run())
    head = EMPTY
    for name in ("analytics", "marketing"):
        head = await define_purpose(log, name, head)
        await projector.wait_for(head.revision, timeout_seconds=WAIT_SECONDS)
        with store.snapshot() as snapshot:
            assert name in read_rules(snapshot).purposes
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_projector_can_run_again(store: WritableStore) -> None:
    log = MemoryEventLog("test")
    projector = Projector(log, store)
    head = EMPTY
    for name in ("analytics", "marketing", "service"):
        running = asyncio.create_task(projector.run())
        head = await define_purpose(log, name, head)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    running = asyncio.create_task(projector.run())
    await projector.wait_for(head.revision, timeout_seconds=WAIT_SECONDS)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_waiting_ends_at_its_deadline(store: WritableStore) -> None:
    projector = Projector(MemoryEventLog("test"), store)
    with pytest.raises(TimeoutError):
        await projector.wait_for(1, timeout_seconds=0.01)


async def define_purpose(log: MemoryEventLog, name: str, head: Head) -> Head:
    source = random_history(1, events=1, records=1).events[0]
    draft = Draft(
        stream=WORKSPACE_STREAM,
        event_id=source.event_id,
        body=PurposeDefined(purpose=name, basis=LawfulBasis.CONSENT),
        happened_at=source.happened_at,
        recorded_at=source.recorded_at,
        command_id=source.command_id,
        correlation_id="",
        decision_id=source.decision_id,
        part=1,
        parts=1,
        auth_id="test",
    )
    attempt = Attempt((draft,), {WORKSPACE_STREAM: head})
    outcome = await log.append(attempt, timeout_seconds=WAIT_SECONDS)
    assert isinstance(outcome, Stored)
    return outcome.heads[WORKSPACE_STREAM]
