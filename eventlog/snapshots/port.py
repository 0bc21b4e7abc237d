"""The snapshot store as hosts see it: the newest packed state of a record, sealed, or nothing.

An implementation keeps three promises. What it gives is what was saved for this record and schema,
unchanged since. Nobody reads a state whose record's key is destroyed. What was removed is gone from
the store's bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from domain.ids import RecordId
from eventlog.port import Head


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a record as of a head of its stream, in bytes of the form that `schema` names.

    `schema` is of letters and digits.
    """

    record_id: RecordId
    schema: str
    head: Head
    state: bytes


class SnapshotStore(Protocol):
    """One workspace's snapshots. Any method may raise `LogUnavailable`."""

    async def load(
        self, record_ids: Iterable[RecordId], *, schema: str
    ) -> Mapping[RecordId, Snapshot]:
        """Give the snapshot of each record that has one of this schema which can be opened."""

    async def save(self, snapshots: Collection[Snapshot]) -> None:
        """Keep these, one for a record, in place of the ones before.

        Left out are those that are too large, and those of records without a key, as of erased
        ones. What another saves at the same time may win: any snapshot is as right as another.
        """

    async def remove(self, record_ids: Iterable[RecordId]) -> None:
        """Erase the bytes of the newest snapshots; may be called again after a failure.

        What they replaced may rest on disk for a while, sealed: destroy the keys first.
        """
