from __future__ import annotations

import pytest

from domain.ids import RecordId
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.snapshots.memory import MemorySnapshotStore
from tests.contracts.snapshot_store import Damage, SnapshotStoreContract


class TestMemorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def ring(self) -> KeyRing:
        return KeyRing(MemoryKeyStore())

    @pytest.fixture
    def store(self, ring: KeyRing) -> MemorySnapshotStore:
        return MemorySnapshotStore(ring)

    @pytest.fixture
    def damage(self, store: MemorySnapshotStore) -> Damage:
        async def damage(record_id: RecordId) -> None:
            store.damage(record_id)

        return damage
