"""Segments over sealed rows: keys are asked for in bulk, and a missing one is never a no."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import pytest

from domain.ids import RecordId
from eventlog.keys.port import DataKey, KeyAnswer
from projections.errors import KeysNotHeld
from projections.fold import SEALED, fold_batch
from projections.memory import MemoryTables
from projections.row_keys import with_keys
from projections.rows import SealedRows
from projections.segments.journal import changes
from projections.segments.membership import MEMBERSHIPS
from projections.tables import Checkpoint
from tests.projections.histories import batches
from tests.projections.segments.test_segments_against_oracle import world_of


class LateKeys:
    """Keys that are at hand once they were fetched, until they are let go."""

    def __init__(self) -> None:
        self.held: dict[RecordId, DataKey] = {}
        self.fetches = 0

    def key_of(self, record_id: RecordId) -> KeyAnswer | None:
        return self.held.get(record_id)

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        self.fetches += 1
        self.held |= {r: DataKey(sha256(r.encode()).digest()) for r in record_ids}


@pytest.mark.parametrize("seed", range(12))
async def test_memberships_are_the_same_over_sealed_rows(seed: int) -> None:
    entries = world_of(seed).history.entries
    keys = LateKeys()
    plain, sealed = MemoryTables(), MemoryTables(SealedRows(SEALED, keys))
    for batch in batches(entries, 5):
        fold_batch(plain, batch)

        async def work() -> Checkpoint:
            return fold_batch(sealed, batch)  # noqa: B023  # awaited before the next batch

        keys.held.clear()
        keys.fetches = 0
        await with_keys(sealed.codec, work)
        assert keys.fetches <= len(batch) + 3
    assert list(sealed.scan(MEMBERSHIPS, b"")) == list(plain.scan(MEMBERSHIPS, b""))
    assert list(changes(sealed)) == list(changes(plain))


async def test_time_that_passes_asks_for_all_keys_at_once() -> None:
    world = world_of(3)
    history = world.history
    history.segment("fresh", 'seen("A", "5m")')
    for number in range(40, 70):
        history.did(number, "A")
    keys = LateKeys()
    tables = MemoryTables(SealedRows(SEALED, keys))

    async def work() -> Checkpoint:
        return fold_batch(tables, history.entries[tables.checkpoint.revision :])

    await with_keys(tables.codec, work)
    history.advance(history.now + 400)
    keys.held.clear()
    with pytest.raises(KeysNotHeld) as missing:
        fold_batch(tables, history.entries[tables.checkpoint.revision :])
    assert len(missing.value.record_ids) >= 30
    keys.fetches = 0
    await with_keys(tables.codec, work)
    assert keys.fetches == 1
    closed = [c for c in changes(tables) if (c.segment, c.cause) == ("fresh", "time")]
    assert len(closed) >= 30
