"""A log folded in shares is the log folded at once: the same rows, however it is dealt (R17)."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.ids import DecisionId
from eventlog.port import Entry
from projections.clock import LogTimes
from projections.copies import SIGNALS
from projections.fold import TABLES, fold_batch
from projections.memory import MemoryTables
from projections.rows import OpenRows
from projections.tables import Checkpoint
from replay.copies_file import read_copies, write_copies
from replay.scanning import EVERY_SHARE, Scan
from replay.shares import Copy, Share, ShareFold, put_together
from tests.projections.erasing import erasing_history
from tests.projections.histories import History, identifier, random_history, signal
from tests.projections.segments.test_segments_against_oracle import world_of


@dataclass
class Here:
    """A share that is folded in this process."""

    fold: ShareFold
    batches: list[list[Entry]]
    folder: Path
    number: int

    async def share(self) -> Share:
        for batch in self.batches:
            await self.fold.add(batch)
        share = await self.fold.finish()
        write_copies(self.folder, self.number, self.fold.tables)
        self.fold.tables = MemoryTables()  # nobody may need them any more
        return share

    async def copies_of(self, signals: Collection[int]) -> list[Copy]:
        return read_copies(self.folder, self.number, signals)


def decisions(entries: Sequence[Entry]) -> list[DecisionId | None]:
    return [entry.event.decision_id if entry.event else None for entry in entries]


async def in_shares(
    entries: Sequence[Entry],
    shares: int,
    *,
    size: int = 7,
    decided: Sequence[DecisionId | None] = (),
) -> tuple[Checkpoint, int]:
    """Fold entries in shares; `decided` are their decisions, as their envelopes say."""
    scan = Scan()
    named = zip(entries, decided or decisions(entries), strict=True)
    numbers = [scan.add(entry, decision) for entry, decision in named]
    dealt, times = scan.assign(shares), LogTimes(scan.times())
    folders, lying = [], Path(tempfile.mkdtemp())
    for share in range(shares):
        own = [
            entry
            for entry, number in zip(entries, numbers, strict=True)
            if dealt[number] in (share, EVERY_SHARE)
        ]
        fold = ShareFold(OpenRows(), times, revision=scan.revision, is_first=share == 0, size=size)
        batches = [own[n : n + size] for n in range(0, len(own), size)]
        folders.append(Here(fold, batches, lying, share))
    folded = [await folder.share() for folder in folders]
    found = await put_together(scan, times, folders=folders, shares=folded)
    shutil.rmtree(lying)
    return found


def at_once(entries: Sequence[Entry]) -> MemoryTables:
    tables = MemoryTables()
    if entries:
        fold_batch(tables, entries)
    return tables


async def compare(
    entries: Sequence[Entry],
    shares: int,
    *,
    size: int = 7,
    decided: Sequence[DecisionId | None] = (),
) -> MemoryTables:
    tables = at_once(entries)
    found, rows = await in_shares(entries, shares, size=size, decided=decided)
    assert found == tables.checkpoint
    assert rows == sum(1 for table in TABLES for _ in tables.scan(table, b""))
    return tables


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 30))
async def test_random_segments_histories_and_clocks(seed: int, shares: int, size: int) -> None:
    await compare(world_of(seed).history.entries, shares, size=size)


@pytest.mark.parametrize("shares", [1, 2, 5])
async def test_a_long_history_of_merges_and_repeated_signals(shares: int) -> None:
    history = random_history(11, events=1_500, records=40)
    await compare(history.entries, shares, size=100)


async def test_copies_of_a_signal_in_several_shares_are_told_apart() -> None:
    history = History()
    history.rules()
    for number in (3, 1, 2, 3, 1):
        history.link(number, identifier(f"{number}"))
        history.signals(number, signal("same"), signal(f"own {number}"))
    tables = await compare(history.entries, 3)
    assert len(list(tables.scan(SIGNALS, b""))) == 4


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1_000_000), st.integers(2, 4))
async def test_erasures_with_the_keys_and_without(seed: int, shares: int) -> None:
    history = erasing_history(seed, steps=90, people=7)
    await compare(history.entries, shares)
    await compare(history.after_destruction(), shares)


async def test_events_that_nobody_can_read_park_their_customer_alone() -> None:
    drawn = random.Random(5)
    for seed in range(20):
        history = random_history(seed, events=120, records=8)
        rules = sum(entry.stream.kind == "workspace" for entry in history.entries)
        decided = decisions(history.entries)
        for place in drawn.sample(range(rules, len(history.entries)), 2):
            entry = history.entries[place]
            history.entries[place] = replace(entry, event=None, fault="body: spoilt")
        await compare(history.entries, 3, decided=decided)
