"""The key store as the log sees it: one data key for each record, until it is destroyed.

An implementation keeps three promises. Whoever asks for a record's key gets the same one, in every
process. A destroyed key is gone from the store's bytes, and its record never gets another. What is
asked for in bulk takes a few requests, however many records there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from enum import Enum
from typing import NewType, Protocol

from domain.ids import RecordId

DataKey = NewType("DataKey", bytes)
"""32 bytes for AES-256-GCM."""

DATA_KEY_BYTES = 32


class NoKey(Enum):
    """Why there is no key to give."""

    DESTROYED = "destroyed"
    NEVER_MADE = "never made"
    DAMAGED = "damaged"


KeyAnswer = DataKey | NoKey


Progress = Callable[[int], None]
"""Told now and then how many keys a rotation has wrapped."""


def silent(_: int) -> None:
    """Tell nobody."""


class KeyStore(Protocol):
    """One workspace's data keys.

    Any method may raise `LogUnavailable`; its subclass `WorkspaceKeyMissing` says that no waiting
    helps. All may be called again after a failure, and then finish what was left.
    """

    async def ensure(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give the key of each record, made where there was none; never `NEVER_MADE`."""

    async def load(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give the key of each record, or say why there is none."""

    async def destroy(self, record_ids: Iterable[RecordId]) -> None:
        """Destroy keys for good, also those that were never made."""

    async def rotate(self, *, progress: Progress = silent) -> int:
        """Wrap every key anew under the newest workspace key; say how many were."""

    async def turn_over(self) -> None:
        """Let what was destroyed or rotated leave every disk, before this returns.

        To be called after a destruction or rotation; only then the bytes are gone on replicas too.
        """

    async def position(self) -> int:
        """Give the place from which `follow` tells everything that is destroyed from now on."""

    def follow(self, after: int) -> AsyncIterator[list[RecordId]]:
        """Yield the records whose keys are destroyed, and go on for ever."""
