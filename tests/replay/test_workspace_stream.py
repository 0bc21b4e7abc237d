"""The workspace's stream is loaded once for many past states, and is always what the log has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from domain.consent import LawfulBasis
from domain.ids import WORKSPACE_STREAM, Stream
from domain.workspace_events import PurposeDefined
from eventlog.errors import LogDamaged
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Entry, Head, Stored
from replay.workspace_stream import WorkspaceStreamKept
from tests.support.events import draft, new_record, store


class NotedLog(MemoryEventLog):
    """Knows after which revision the workspace's stream was loaded."""

    def __init__(self) -> None:
        super().__init__("test")
        self.loaded_after: list[int] = []

    async def load_many(
        self,
        streams: Mapping[Stream, Head],
        *,
        concurrency: int = 32,
        recheck: Collection[Stream] = (),
    ) -> dict[Stream, list[Entry]]:
        if WORKSPACE_STREAM in streams:
            self.loaded_after.append(streams[WORKSPACE_STREAM].revision)
        return await super().load_many(streams, concurrency=concurrency, recheck=recheck)


async def define(log: MemoryEventLog, purpose: str, *, after: Stored | None = None) -> Stored:
    body = PurposeDefined(purpose=purpose, basis=LawfulBasis.CONTRACT)
    return await store(log, draft(WORKSPACE_STREAM, body), after=after)


async def test_only_what_is_new_of_it_is_loaded() -> None:
    log, record = NotedLog(), new_record()
    kept = WorkspaceStreamKept(log)
    streams = dict.fromkeys([WORKSPACE_STREAM, record], EMPTY)
    assert await kept.load_many(streams) == {WORKSPACE_STREAM: [], record: []}
    stored = await define(log, "service")
    await store(log, draft(record))
    assert await kept.load_many(streams) == await log.load_many(streams)
    await define(log, "analytics", after=stored)
    log.loaded_after.clear()
    assert await kept.load_many(streams) == await log.load_many(streams)
    assert await kept.load_many({record: EMPTY}) == await log.load_many({record: EMPTY})
    assert log.loaded_after == [stored.revision, 0]


async def test_what_the_log_has_lost_is_not_kept() -> None:
    log, streams = NotedLog(), {WORKSPACE_STREAM: EMPTY}
    kept = WorkspaceStreamKept(log)
    first = await define(log, "service")
    await define(log, "analytics", after=first)
    assert len((await kept.load_many(streams))[WORKSPACE_STREAM]) == 2
    log.lose_after(first.revision)
    assert await kept.load_many(streams) == await log.load_many(streams)
    await define(log, "marketing", after=first)
    assert await kept.load_many(streams) == await log.load_many(streams)


async def test_a_stream_that_is_damaged_is_told_as_by_the_log() -> None:
    log, record = NotedLog(), new_record()
    kept = WorkspaceStreamKept(log)
    streams = dict.fromkeys([WORKSPACE_STREAM, record], EMPTY)
    await define(log, "service")
    first = await store(log, draft(record))
    await store(log, draft(record), after=first)
    await kept.load_many(streams)
    log.damage_body(first.revision, b"{}")
    with pytest.raises(LogDamaged):
        await log.load_many(streams)
    with pytest.raises(LogDamaged):
        await kept.load_many(streams)
