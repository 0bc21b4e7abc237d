"""Attempts given to a group commit, and a log that is watched while it stores them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from domain.ids import EventId, Stream
from eventlog.commit import GroupCommit
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.memory import MemoryEventLog
from eventlog.port import Attempt, Entry, Outcome
from tests.support.events import attempt, draft, new_record, touched


class WatchedLog(MemoryEventLog):
    """Remember what reaches the log, hold appends at a gate, and count reads of the heads."""

    def __init__(self) -> None:
        super().__init__("test")
        self.batches: list[Attempt] = []
        self.reads_of_heads = 0
        self.heads_are_readable = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        self.batches.append(attempt)
        await self.gate.wait()
        return await super().append(attempt, timeout_seconds=timeout_seconds)

    async def last_entries(self, streams: Iterable[Stream]) -> dict[Stream, Entry]:
        self.reads_of_heads += 1
        if not self.heads_are_readable:
            raise LogUnavailable("not now")
        return await super().last_entries(streams)

    @property
    def sizes(self) -> list[int]:
        return [len(batch.drafts) for batch in self.batches]


@pytest.fixture
def log() -> WatchedLog:
    return WatchedLog()


@pytest.fixture
def commit(log: WatchedLog) -> GroupCommit:
    return GroupCommit(log)


def send(
    commit: GroupCommit, *attempts: Attempt, timeout: float = 10
) -> list[asyncio.Task[Outcome]]:
    """Give attempts to a group commit, in this order, each from a caller of its own."""
    return [asyncio.create_task(commit.append(a, timeout_seconds=timeout)) for a in attempts]


async def all_of(commit: GroupCommit, *attempts: Attempt) -> list[Outcome]:
    return await asyncio.gather(*send(commit, *attempts))


def singles(number: int) -> list[Attempt]:
    return [attempt(draft(new_record(), touched())) for _ in range(number)]


async def events_of(log: MemoryEventLog | JetStreamEventLog) -> list[EventId]:
    return [e.event.event_id async for batch in log.read() for e in batch if e.event]


def patient(commit: GroupCommit, *attempts: Attempt) -> list[asyncio.Task[Outcome]]:
    """Give attempts that may wait to a group commit."""
    return [
        asyncio.create_task(commit.append(a, timeout_seconds=10, may_wait=True)) for a in attempts
    ]
