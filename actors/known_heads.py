"""What is known elsewhere of where records end, compared with what the log gives of them (R3).

A chain shows that an event in its middle was replaced, not that its last one was, nor that it is
gone. The read side has folded that event and kept its digest: whoever wakes a record compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from domain.ids import RecordId, Stream, record_stream
from eventlog.errors import LogDamaged
from eventlog.port import Entry, EventLog, Head


class KnownHeads(Protocol):
    """Heads that the log has had: the read side's."""

    def heads_of(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, Head]:
        """Give what is known now; nothing where nothing is."""


class NoHeads:
    """Nothing is known."""

    def heads_of(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, Head]:  # noqa: ARG002  # the protocol's
        """Give nothing."""
        return {}


async def contradicted(
    log: EventLog,
    known: Mapping[RecordId, Head],
    loaded: Mapping[Stream, tuple[Head, Sequence[Entry]]],
) -> set[RecordId]:
    """Name the records of which the log no longer gives what is known. Raises `LogUnavailable`.

    `loaded` holds, by stream, the head that a reader began after and what it was given from there.
    """
    replaced: set[RecordId] = set()
    short: list[RecordId] = []
    for record_id, head in known.items():
        before, entries = loaded[record_stream(record_id)]
        at = [entry.head for entry in entries if entry.version == head.version]
        if before.version == head.version:
            at.append(before)
        if before.version > head.version or head in at:
            continue
        if at:
            replaced.add(record_id)
        else:
            short.append(record_id)
    return replaced | await _lost(log, {record_id: known[record_id] for record_id in short})


async def _lost(log: EventLog, known: Mapping[RecordId, Head]) -> set[RecordId]:
    """Tell records that have lost events from those of which a replica that lags was read."""
    lost: set[RecordId] = set()
    for record_id, head in known.items():
        try:
            digest = await log.digest_at(head.revision)
        except LogDamaged:
            digest = None
        if digest != head.digest:
            lost.add(record_id)
    return lost
