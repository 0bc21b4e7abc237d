"""Who is erased as the log says, whatever keys there still are (R14).

Between the request of an erasure and the end of its keys the log can still be unsealed: whoever
shows what is in it asks here first. After a restore such keys are destroyed again before anything
is used: a backup lists those that were gone when it was made, the log knows of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from domain.erasure_events import END_A_RECORD, ErasureRequested
from domain.event import Event, Recorded
from domain.ids import RecordId, StreamKind, record_stream
from eventlog.keys.port import KeyStore
from eventlog.port import Entry, LogReader
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


async def erased_by_now(log: LogReader, record_ids: Iterable[RecordId]) -> frozenset[RecordId]:
    """Name those of some records whose person is erased: nothing else comes after on their streams.

    Raises `LogUnavailable` and `LogDamaged`.
    """
    newest = await log.last_entries([record_stream(record_id) for record_id in record_ids])
    return frozenset(
        RecordId(stream.key)
        for stream, entry in newest.items()
        if entry.event is not None and isinstance(entry.event.body, END_A_RECORD)
    )


async def masked(log: LogReader, entries: Sequence[Entry]) -> list[Entry]:
    """Give entries as they read when the keys of everybody who is erased by now are destroyed."""
    personal = {
        RecordId(entry.stream.key)
        for entry in entries
        if entry.event is not None and _is_personal(entry.event)
    }
    erased = await erased_by_now(log, personal) if personal else frozenset()
    return [
        replace(entry, event=_mask(entry.event))
        if entry.event is not None and entry.stream.key in erased and _is_personal(entry.event)
        else entry
        for entry in entries
    ]


def _is_personal(event: Recorded[Event]) -> bool:
    of_record = event.stream.kind is StreamKind.RECORD
    return of_record and bool(event.body.PERSONAL) and not event.is_erased


def _mask(event: Recorded[Event]) -> Recorded[Event]:
    body = type(event.body).model_validate({**event.body.__dict__, **event.body.PERSONAL})
    return event._replace(body=body, is_erased=True)
