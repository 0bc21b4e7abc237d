"""What the log tells of identifiers: who holds them, and who held those that are free again.

Called by `readiness.py` for identifiers that a command may claim, and where somebody unread is
erased. Of most the newest event says enough; of those that are free, or are to be readmitted, their
whole streams are read, which are short.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from actors.rounds import IdentifierStream
from domain.event import Event, Recorded
from domain.identity import PastHolder
from domain.identity_events import (
    IdentifierClaimed,
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifierTombstoned,
)
from domain.ids import IdentifierKey, RecordId, Stream, made_at_milliseconds
from domain.record import remembered
from eventlog.errors import LogDamaged
from eventlog.port import EMPTY, Entry, EventLog


@dataclass(slots=True)
class Told:
    """What the log told of identifiers; of the unreadable an event cannot be read."""

    owners: dict[IdentifierKey, RecordId] = field(default_factory=dict)
    streams: dict[IdentifierKey, IdentifierStream] = field(default_factory=dict)
    unreadable: set[IdentifierKey] = field(default_factory=set)


async def read_identifiers(
    log: EventLog, wanted: Collection[Stream], *, whole: Collection[Stream] = ()
) -> Told:
    """Read where these streams stand; one that nobody has written to is left out.

    Of those in `whole` more than the newest event is asked for, whatever that one says.
    """
    told = Told()
    read_on: dict[Stream, Entry] = {}
    for stream, entry in (await log.last_entries(wanted)).items():
        key = IdentifierKey(stream.key)
        match entry.event.body if entry.event is not None else None:
            case IdentifierClaimed(record_id=record_id):
                told.owners[key] = RecordId(record_id)
            case IdentifierReleased() | IdentifierReadmitted():
                read_on[stream] = entry
                continue
            case IdentifierTombstoned():
                pass
            case _:
                told.unreadable.add(key)
                continue
        if stream in whole:
            read_on[stream] = entry
        else:
            told.streams[key] = stream_of(entry)
    histories = await _histories(log, read_on) if read_on else {}
    for stream, entry in read_on.items():
        if stream in histories:
            told.streams[IdentifierKey(stream.key)] = stream_of(entry, histories[stream])
        else:
            told.unreadable.add(IdentifierKey(stream.key))
    return told


def stream_of(entry: Entry, history: Iterable[Entry] = ()) -> IdentifierStream:
    """Say where the stream of an identifier stands, by its newest event and those before it."""
    body = entry.event.body if entry.event is not None else None
    erased = RecordId(body.record_id) if isinstance(body, IdentifierTombstoned) else None
    entries = {known.revision: known for known in (*history, entry)}
    events = [known.event for known in entries.values() if known.event is not None]
    readmitted = {
        event.command_id: remembered(None, event)
        for event in events
        if isinstance(event.body, IdentifierReadmitted)
    }
    return IdentifierStream(entry.head, erased, _past_holders(entry.stream, events), readmitted)


def _past_holders(stream: Stream, events: Iterable[Recorded[Event]]) -> tuple[PastHolder, ...]:
    """Give who let go of an identifier, in order; when, is what the host's clock made of the id."""
    key = IdentifierKey(stream.key)
    return tuple(
        PastHolder(key=key, record_id=body.record_id, until=made_at_milliseconds(event.event_id))
        for event in events
        if isinstance(body := event.body, IdentifierReleased | IdentifierTombstoned)
    )


async def _histories(log: EventLog, streams: Iterable[Stream]) -> dict[Stream, list[Entry]]:
    """Read streams from their beginning, leaving out those that are damaged."""
    try:
        return await log.load_many(dict.fromkeys(streams, EMPTY))
    except LogDamaged:
        found: dict[Stream, list[Entry]] = {}
        for stream in streams:
            try:
                found[stream] = await log.load(stream)
            except LogDamaged:
                continue
        return found
