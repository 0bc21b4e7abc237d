"""Snapshots in memory: for tests of everything above them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import NoKey
from eventlog.snapshots.port import Snapshot
from eventlog.snapshots.seal import SCHEMA, SealedSnapshot, seal, unseal


class MemorySnapshotStore:
    """Keep one workspace's snapshots in memory, sealed as on disk."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._sealed: dict[RecordId, SealedSnapshot] = {}
        self.is_available = True

    async def load(
        self, record_ids: Iterable[RecordId], *, schema: str
    ) -> Mapping[RecordId, Snapshot]:
        """Give the snapshot of each record that has one of this schema which can be opened."""
        self._require_available()
        held = {r: self._sealed[r] for r in record_ids if r in self._sealed}
        keys = await self._keys.load(held)
        found = {}
        for record_id, sealed in held.items():
            key = keys[record_id]
            if sealed.headers[SCHEMA] != schema or isinstance(key, NoKey):
                continue
            snapshot = unseal(record_id, sealed, key)
            if snapshot is not None:
                found[record_id] = snapshot
        return found

    async def save(self, snapshots: Collection[Snapshot]) -> None:
        """Keep these in place of the ones before, but none without a key."""
        self._require_available()
        keys = await self._keys.load(s.record_id for s in snapshots)
        for snapshot in snapshots:
            key = keys[snapshot.record_id]
            if not isinstance(key, NoKey):
                self._sealed[snapshot.record_id] = seal(snapshot, key)

    async def remove(self, record_ids: Iterable[RecordId]) -> None:
        """Forget these."""
        self._require_available()
        for record_id in record_ids:
            self._sealed.pop(record_id, None)

    def damage(self, record_id: RecordId) -> None:
        """Flip a bit of a snapshot."""
        headers, body = self._sealed[record_id]
        self._sealed[record_id] = SealedSnapshot(headers, bytes([*body[:-1], body[-1] ^ 1]))

    def _require_available(self) -> None:
        if not self.is_available:
            raise LogUnavailable("the snapshots in memory were made unavailable")
