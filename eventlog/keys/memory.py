"""The key store in memory: for tests of everything above it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping

from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.keys.port import DATA_KEY_BYTES, DataKey, KeyAnswer, NoKey, Progress, silent
from eventlog.keys.workspace_key import KeySource, WorkspaceKeys, new_workspace_key


class MemoryKeyStore:
    """Keep one workspace's data keys in memory, wrapped as on disk."""

    def __init__(self, source: KeySource | None = None) -> None:
        self._source = source or _always(new_workspace_key())
        self._active = self._source().newest
        self._wrapped: dict[RecordId, tuple[int, bytes]] = {}
        self._destroyed: list[RecordId] = []
        self._grown = asyncio.Condition()
        self.requests = 0
        self.is_available = True

    async def ensure(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give the key of each record, made where there was none."""
        keys = self._ask()
        wanted = list(record_ids)
        for record_id in wanted:
            if self._answer(record_id, keys) is NoKey.NEVER_MADE:
                fresh = DataKey(secrets.token_bytes(DATA_KEY_BYTES))
                self._wrapped[record_id] = (
                    self._active,
                    keys.wrap(record_id, fresh, self._active),
                )
        return {record_id: self._answer(record_id, keys) for record_id in wanted}

    async def load(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give the key of each record, or say why there is none."""
        keys = self._ask()
        return {record_id: self._answer(record_id, keys) for record_id in record_ids}

    async def destroy(self, record_ids: Iterable[RecordId]) -> None:
        """Destroy keys for good."""
        self._ask()
        async with self._grown:
            for record_id in record_ids:
                self._wrapped.pop(record_id, None)
                if record_id not in self._destroyed:
                    self._destroyed.append(record_id)
            self._grown.notify_all()

    async def rotate(self, *, progress: Progress = silent) -> int:
        """Wrap every key anew under the newest workspace key; say how many were."""
        keys = self._ask()
        self._active = keys.newest
        old = {r: held for r, held in self._wrapped.items() if held[0] != self._active}
        for record_id, (version, wrapped) in old.items():
            key = keys.unwrap(record_id, wrapped, version)
            self._wrapped[record_id] = (self._active, keys.wrap(record_id, key, self._active))
        progress(len(old))
        return len(old)

    async def turn_over(self) -> None:
        """Do nothing: there is no disk."""
        self._ask()

    async def position(self) -> int:
        """Give the place from which `follow` goes on."""
        return len(self._destroyed)

    async def follow(self, after: int) -> AsyncIterator[list[RecordId]]:
        """Yield the records whose keys are destroyed, and go on for ever."""
        while True:
            async with self._grown:
                while len(self._destroyed) <= after:
                    await self._grown.wait()
            told = self._destroyed[after:]
            after += len(told)
            yield told

    def _ask(self) -> WorkspaceKeys:
        if not self.is_available:
            raise LogUnavailable("the key store in memory was made unavailable")
        self.requests += 1
        return self._source()

    def _answer(self, record_id: RecordId, keys: WorkspaceKeys) -> KeyAnswer:
        if record_id in self._destroyed:
            return NoKey.DESTROYED
        if record_id not in self._wrapped:
            return NoKey.NEVER_MADE
        version, wrapped = self._wrapped[record_id]
        return keys.unwrap(record_id, wrapped, version)


def _always(keys: WorkspaceKeys) -> KeySource:
    return lambda: keys
