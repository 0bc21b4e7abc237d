"""Replays equal the projector, and name the first event that breaks the log."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import cast

import pytest

from eventlog.errors import LogDamaged
from eventlog.port import EventLog
from projections.errors import CustomerParked
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.views import customer_view
from replay.fold import fold_log
from tests.projections.histories import (
    History,
    ListedLog,
    random_history,
    record_id,
    signal,
)

RECORDS = 20


@pytest.fixture
def history() -> History:
    return random_history(8, events=600, records=RECORDS)


def listed(history: History) -> EventLog:
    return cast("EventLog", ListedLog(history.entries))


async def test_a_replay_equals_the_projection(history: History) -> None:
    projected = MemoryTables()
    fold_batch(projected, history.entries)
    seen: list[int] = []
    replayed = await fold_log(listed(history), progress=seen.append)
    assert replayed.checkpoint == projected.checkpoint
    assert seen[-1] == len(history.entries)


async def test_the_log_digest_is_the_chain_of_all_digests(history: History) -> None:
    expected = bytes(32)
    for entry in history.entries:
        expected = sha256(expected + entry.revision.to_bytes(8, "big") + entry.digest).digest()
    assert (await fold_log(listed(history))).checkpoint.log_digest == expected


@pytest.mark.parametrize("revision", [0, 1, 123, 599])
async def test_a_replay_to_a_revision_is_that_prefix(history: History, revision: int) -> None:
    projected = MemoryTables()
    if revision:
        fold_batch(projected, history.entries[:revision])
    replayed = await fold_log(listed(history), through_revision=revision)
    assert replayed.checkpoint == projected.checkpoint


async def test_a_log_that_ends_too_early_is_damaged(history: History) -> None:
    with pytest.raises(LogDamaged):
        await fold_log(listed(history), through_revision=len(history.entries) + 1)


@pytest.mark.parametrize(
    "damage", [{"digest": bytes(32)}, {"version": 9_999}, {"previous": b"x" * 32}]
)
async def test_a_broken_chain_is_found(history: History, damage: dict[str, bytes]) -> None:
    place = next(
        index
        for index, entry in enumerate(history.entries[100:], start=100)
        if any(later.previous == entry.digest for later in history.entries[index:])
    )
    history.entries[place] = replace(history.entries[place], **damage)  # type: ignore[arg-type]  # one field each
    with pytest.raises(LogDamaged):
        await fold_log(listed(history))


async def test_a_missing_revision_is_found(history: History) -> None:
    del history.entries[300]
    with pytest.raises(LogDamaged):
        await fold_log(listed(history))


async def test_an_unreadable_envelope_keeps_its_place_in_the_chain() -> None:
    history = History()
    history.rules()
    history.signals(1, signal("a"))
    history.signals(1, signal("b"))
    spoilt = replace(
        history.entries[-2], event=None, version=0, previous=bytes(32), fault="envelope: spoilt"
    )
    history.entries[-2] = spoilt
    tables = await fold_log(listed(history))
    assert tables.checkpoint.revision == len(history.entries)
    with pytest.raises(CustomerParked):
        customer_view(tables, record_id(1), "service")
