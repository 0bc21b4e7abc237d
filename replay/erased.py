"""Whose keys a log says are gone: destroyed again before anything of a restore is used (R14).

A backup lists the keys that were destroyed when it was made; the log itself knows also of those
that were only to be, had the steward not been killed or the keys' backup not been older.
"""

from __future__ import annotations

from contextlib import aclosing

from domain.erasure_events import ErasureRequested
from domain.ids import RecordId
from eventlog.keys.port import KeyStore
from eventlog.port import LogReader
from replay.fold import READ_EVENTS_MAX, Progress, silent


async def destroy_erased(log: LogReader, keys: KeyStore, *, progress: Progress = silent) -> int:
    """Destroy the key of every record that a log says is erased; say how many there are.

    Needs no key to read the log. Raises `LogError`.
    """
    erased: list[RecordId] = []
    async with aclosing(log.read(batch_events_max=READ_EVENTS_MAX)) as batches:  # type: ignore[type-var]  # generators, by contract
        async for batch in batches:
            progress(batch[-1].revision)
            erased += [
                RecordId(entry.stream.key)
                for entry in batch
                if entry.event is not None and isinstance(entry.event.body, ErasureRequested)
            ]
    if erased:
        await keys.destroy(erased)
    return len(erased)
