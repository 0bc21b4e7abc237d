"""Which prefix of the log a past state stands on: by revision, or by when it was known (R15).

A prefix holds whole decisions: one that is cut was never seen halfway, and counts as not there.
As of a time means the longest prefix whose clock is not past it, then letting time pass to it.
Where rows of the read side are at hand, their marks of the clock say where to look; without, the
log is read from its start. Either way the answer is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from domain.consent_events import ChoicesRecorded
from domain.errors import Invalid
from domain.event import Event, Recorded
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    CustomerTouched,
    IdentifiersLinked,
    IdentifiersUnlinked,
)
from domain.ids import StreamKind
from domain.signal_events import SignalsRecorded
from domain.workspace_events import ClockAdvanced
from eventlog.errors import LogUnavailable
from eventlog.port import Entry, LogReader
from projections.clock import (
    MARK_EVERY_REVISIONS,
    Reading,
    read_before_revision,
    read_before_time,
    time_moved_to,
)
from projections.instants import microseconds
from projections.tables import ReadTables
from projections.timeline import signal_time

SILENCE_SECONDS_MAX = 5.0
"""Until a log that gives no more events is given up: somebody waits for one answer."""

_WHO_IS_WHO = (
    IdentifiersLinked,
    IdentifiersUnlinked,
    CustomersMerged,
    CustomersParted,
    CustomerTouched,
)


@dataclass(frozen=True, slots=True)
class AsOf:
    """A past state: known as of a revision or a time, of what had happened by another, if named.

    Who is who and the rules are always as they were known; only facts are left out that had not
    happened by then.
    """

    revision: int | None = None
    known: datetime | None = None
    happened: datetime | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """The events that were known, the time that it was then, and what of them had happened."""

    revision: int
    clock: datetime
    happened: datetime | None = None


async def find_prefix(
    log: LogReader, as_of: AsOf, *, now: datetime, marks: ReadTables | None = None
) -> Prefix:
    """Find where a past state ends. Raises `Invalid` / INVALID_AS_OF where it is not past.

    Also `LogUnavailable` and `LogDamaged`.
    """
    if as_of.revision is not None and as_of.known is not None:
        raise Invalid("INVALID_AS_OF", "name a revision or a time at which it was known")
    if any(time is not None and time > now for time in (as_of.known, as_of.happened)):
        raise Invalid("INVALID_AS_OF", "the time has not come yet")
    known = now if as_of.revision is None and as_of.known is None else as_of.known
    start = _nearest(marks, as_of.revision, known)
    found, begun = await _read_on(log, start, as_of.revision, known)
    if as_of.revision is not None and found.revision < as_of.revision:
        raise Invalid("INVALID_AS_OF", "the log has not come to the revision yet")
    if begun:
        before = AsOf(revision=found.revision - begun, happened=as_of.happened)
        prefix = await find_prefix(log, before, now=now, marks=marks)
        return (
            prefix if known is None else replace(prefix, clock=min(known, as_of.happened or known))
        )
    clock = found.at if known is None else known
    if as_of.happened is not None:
        clock = min(clock, as_of.happened)
    return Prefix(found.revision, clock, as_of.happened)


async def clock_after(
    log: LogReader, revision: int, *, marks: ReadTables | None = None
) -> datetime:
    """Say what the log's clock shows after a revision. Raises `LogUnavailable` and `LogDamaged`."""
    found, _ = await _read_on(log, _nearest(marks, revision, None), revision, None)
    return found.at


def within(entries: Sequence[Entry], prefix: Prefix) -> list[Entry]:
    """Give what of these entries a past state stands on, in the order of the log."""
    known = sorted((e for e in entries if e.revision <= prefix.revision), key=lambda e: e.revision)
    if prefix.happened is None:
        return known
    return list(_happened(known, prefix.happened))


def _nearest(marks: ReadTables | None, revision: int | None, known: datetime | None) -> Reading:
    if marks is None:
        return Reading()
    if known is not None:
        return read_before_time(marks, known)
    return read_before_revision(marks, max(0, (revision or 0) - 1))


async def _read_on(
    log: LogReader, found: Reading, revision: int | None, known: datetime | None
) -> tuple[Reading, int]:
    """Read events one by one from a reading of the clock on, up to the bound.

    Also say how many events of a decision lie before the bound, if the rest of it does not.
    """
    begun = 0
    if found.revision == revision:
        return found, begun
    reading = log.read(
        after_revision=found.revision,
        through_revision=revision,
        batch_events_max=MARK_EVERY_REVISIONS,
    )
    async with aclosing(reading):  # type: ignore[type-var]  # generators, by contract
        while (batch := await _next(reading)) is not None:
            for entry in batch:
                event = entry.event
                at = found.at if event is None else time_moved_to(event)
                if known is not None and at > known:
                    return found, begun
                found = Reading(entry.revision, max(found.at, at))
                begun = event.part if event is not None and event.part < event.parts else 0
    return found, begun


async def _next(reading: AsyncIterator[list[Entry]]) -> list[Entry] | None:
    """Give the next events; None at the end. Raises `LogUnavailable` where they do not come."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS_MAX):
            return await anext(reading, None)
    except TimeoutError:
        raise LogUnavailable("the log gives no more events") from None


def _happened(entries: Sequence[Entry], by: datetime) -> Iterator[Entry]:
    """Leave out the facts that had not happened by a time, and let no clock go beyond it."""
    for entry in entries:
        event = entry.event
        if event is None:
            yield entry
            continue
        body = _body_by(event, by)
        if body is not None:
            recorded_at = min(event.recorded_at, by)
            yield replace(entry, event=event._replace(body=body, recorded_at=recorded_at))


def _body_by(event: Recorded[Event], by: datetime) -> Event | None:
    match event.body:
        case ClockAdvanced() as turned:
            return turned.model_copy(update={"to": min(turned.to, by)})
        case SignalsRecorded() as recorded:
            latest = microseconds(by)
            signals = tuple(s for s in recorded.signals if signal_time(event, s) <= latest)
            return recorded.model_copy(update={"signals": signals}) if signals else None
        case ChoicesRecorded() as recorded:
            acts = tuple(act for act in recorded.acts if act.happened_at <= by)
            return recorded.model_copy(update={"acts": acts}) if acts else None
        case body if isinstance(body, _WHO_IS_WHO) or event.stream.kind is not StreamKind.RECORD:
            return body
        case body:
            return body if event.effective_at <= by else None
