"""Writers that never stop, what they are told of their events, and whether the log agrees."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from domain.ids import EventId, Stream
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import EMPTY, Attempt, Conflict, Entry, Head, Outcome, Stored, Unknown
from tests.support.events import attempt, draft, new_record, touched
from tests.support.waiting import until

PATIENT_SECONDS = 45.0
"""Longer than any election: whoever waits so long is told how it ended."""


class Appends(Protocol):
    """A log, or a group commit in front of one."""

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome: ...


@dataclass
class Account:
    """What writers were told of their events."""

    stored: dict[EventId, int] = field(default_factory=dict)
    absent: set[EventId] = field(default_factory=set)
    unknown: list[tuple[EventId, ...]] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, one: Attempt, outcome: Outcome) -> None:
        ids = tuple(d.event_id for d in one.drafts)
        match outcome:
            case Stored():
                self.stored.update({event.event_id: event.revision for event in outcome.events})
                assert tuple(event.event_id for event in outcome.events) == ids
            case Unknown():
                self.unknown.append(ids)
            case _:
                self.absent.update(ids)

    async def until_more(self, events: int) -> None:
        """Wait until so many more events were acknowledged."""
        enough = len(self.stored) + events
        await until(lambda: len(self.stored) >= enough, timeout_seconds=60)

    async def compare(self, log: JetStreamEventLog) -> None:
        """Require that the log holds what was said of it, once and in order, and nothing else."""
        entries: list[Entry] = [e async for batch in log.read() for e in batch]
        assert [e.revision for e in entries] == list(range(1, len(entries) + 1))
        heads: dict[Stream, Head] = {}
        for entry in entries:
            before = heads.get(entry.stream, EMPTY)
            assert (entry.version, entry.previous) == (before.version + 1, before.digest)
            heads[entry.stream] = entry.head
        ids = [entry.event.event_id for entry in entries if entry.event]
        assert len(ids) == len(entries)
        assert set(Counter(ids).values()) == {1}
        found = dict(zip(ids, (e.revision for e in entries), strict=True))
        assert self.stored.items() <= found.items()
        assert self.absent.isdisjoint(found)
        for together in self.unknown:
            assert len({event_id in found for event_id in together}) == 1
        told = {event_id for together in self.unknown for event_id in together}
        assert found.keys() <= self.stored.keys() | told


async def write(log: Appends, account: Account, *, events: int, loses_every: int = 0) -> None:
    """Append to streams of its own, each time after the time before; some expect what was once."""
    streams = [new_record() for _ in range(events)]
    heads = dict.fromkeys(streams, EMPTY)
    appends = 0
    while not account.is_over.is_set():
        appends += 1
        loses = loses_every and appends % loses_every == 0
        expected = heads | ({streams[-1]: EMPTY} if loses else {})
        one = attempt(*(draft(s, touched()) for s in streams), expected=expected)
        outcome = await log.append(one, timeout_seconds=PATIENT_SECONDS)
        account.note(one, outcome)
        if loses:
            assert outcome == Conflict(), outcome
        else:
            assert isinstance(outcome, Stored), outcome
            heads = dict(outcome.heads)


async def write_in_haste(log: JetStreamEventLog, account: Account) -> None:
    """Append with little time, and take a new stream where it is not known how it ended."""
    stream, head = new_record(), EMPTY
    while not account.is_over.is_set():
        one = attempt(draft(stream, touched()), expected={stream: head})
        outcome = await log.append(one, timeout_seconds=0.5)
        account.note(one, outcome)
        if isinstance(outcome, Stored):
            head = outcome.heads[stream]
        elif isinstance(outcome, Unknown):
            stream, head = new_record(), EMPTY


async def race(logs: list[JetStreamEventLog], account: Account) -> None:
    """Append to one stream through all logs at once, round after round: one of them wins."""
    stream, head = new_record(), EMPTY
    while not account.is_over.is_set():
        attempts = [attempt(draft(stream, touched()), expected={stream: head}) for _ in logs]
        outcomes = await asyncio.gather(
            *(
                log.append(one, timeout_seconds=PATIENT_SECONDS)
                for log, one in zip(logs, attempts, strict=True)
            )
        )
        for one, outcome in zip(attempts, outcomes, strict=True):
            account.note(one, outcome)
        [won] = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        assert outcomes.count(Conflict()) == len(logs) - 1
        head = won.heads[stream]
