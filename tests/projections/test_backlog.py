"""What waits to be folded: in whole appends, no more than there is room for, the end told last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import pytest

from domain.ids import WORKSPACE_STREAM
from eventlog.errors import LogDamaged
from eventlog.port import Entry
from projections import backlog
from projections.backlog import Backlog
from tests.support.waiting import until

BATCH, WAITING = 4, 8


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "BATCH_EVENTS_MAX", BATCH)
    monkeypatch.setattr(backlog, "WAITING_EVENTS_MAX", WAITING)


class Following:
    """A log that is followed: what a test tells of it comes, until it ends it or has it fail."""

    def __init__(self) -> None:
        self._coming: asyncio.Queue[list[Entry] | Exception | None] = asyncio.Queue()
        self._revision = 0

    def tell(self, *appends: int) -> None:
        """Let appends of so many events come in one read."""
        ends = [number == size for size in appends for number in range(1, size + 1)]
        self._coming.put_nowait([self._entry(ends_append=end) for end in ends])

    def begin(self, events: int) -> None:
        """Let the first events of an append come."""
        self._coming.put_nowait([self._entry(ends_append=False) for _ in range(events)])

    def end(self, error: Exception | None = None) -> None:
        self._coming.put_nowait(error)

    async def read(self) -> AsyncIterator[list[Entry]]:
        while (found := await self._coming.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    @property
    def is_read(self) -> bool:
        return self._coming.empty()

    def _entry(self, *, ends_append: bool) -> Entry:
        self._revision += 1
        return Entry(None, WORKSPACE_STREAM, self._revision, 1, b"", b"", ends_append)


@contextmanager
def reading(log: Following) -> Iterator[Backlog]:
    waiting = Backlog()
    task = asyncio.get_running_loop().create_task(waiting.read(log.read()))
    yield waiting
    task.cancel()


def revisions(entries: Sequence[Entry]) -> list[int]:
    return [entry.revision for entry in entries]


async def test_a_batch_is_whole_appends_and_the_end_comes_after_them() -> None:
    log = Following()
    with reading(log) as waiting:
        log.tell(1, 2, 2)
        assert revisions(await waiting.take()) == [1, 2, 3]
        assert revisions(await waiting.take()) == [4, 5]
        assert not waiting.has_more
        log.end()
        assert await waiting.take() == []
        assert waiting.has_more


async def test_an_append_that_is_longer_than_a_batch_and_than_all_room_is_taken_at_once() -> None:
    log = Following()
    with reading(log) as waiting:
        for _ in range(4):
            log.begin(4)
        log.tell(1)
        taken = asyncio.create_task(waiting.take_full())
        assert revisions(await taken) == list(range(1, 18))


async def test_what_was_begun_alone_is_nothing_to_take() -> None:
    log = Following()
    with reading(log) as waiting:
        log.begin(2)
        taking = asyncio.create_task(waiting.take())
        await until(lambda: log.is_read)
        assert not waiting.has_more
        log.tell(1)
        assert revisions(await taking) == [1, 2, 3]


async def test_a_full_batch_is_waited_for_and_nothing_is_lost_where_nobody_waits_any_more() -> None:
    log = Following()
    with reading(log) as waiting:
        log.tell(1, 1)
        taking = asyncio.create_task(waiting.take_full())
        await until(lambda: waiting.has_more)
        await asyncio.sleep(0.02)
        assert not taking.done()
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        log.tell(1, 1, 1)
        await until(lambda: log.is_read)
        assert revisions(await waiting.take_full()) == [1, 2, 3, 4]
        assert revisions(await waiting.take()) == [5]


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ("dddddddd", [8]),
        ("wddddddd", [1, 7]),
        ("ddddwddd", [4, 1, 3]),
        ("ddwddwdd", [8]),
        ("dwdwdddd", [4, 4]),
        ("dddwdwdw", [3, 5]),
        ("wwwwwwww", [8]),
    ],
)
async def test_what_must_be_folded_whole_comes_apart_from_much_that_can_be_dealt_out(
    kinds: str, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "BATCH_EVENTS_MAX", 8)
    monkeypatch.setattr(backlog, "DEALT_EVENTS_MIN", 3)
    monkeypatch.setattr(backlog, "may_be_dealt", lambda e: kinds[e.revision - 1] == "d")
    log = Following()
    with reading(log) as waiting:
        log.tell(*([1] * len(kinds)))
        log.end()
        await until(lambda: log.is_read)
        taken = [len(await waiting.take_full()) for _ in wanted]
        assert taken == wanted
        assert await waiting.take() == []


async def test_no_append_is_parted_by_what_must_be_folded_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "BATCH_EVENTS_MAX", 8)
    monkeypatch.setattr(backlog, "DEALT_EVENTS_MIN", 2)
    monkeypatch.setattr(backlog, "may_be_dealt", lambda e: e.revision != 4)
    log = Following()
    with reading(log) as waiting:
        log.tell(2, 3, 3)
        assert revisions(await waiting.take_full()) == [1, 2]
        assert revisions(await waiting.take()) == [3, 4, 5]
        assert revisions(await waiting.take()) == [6, 7, 8]


async def test_no_more_is_read_than_there_is_room_for() -> None:
    log = Following()
    with reading(log) as waiting:
        for _ in range(WAITING + 4):
            log.tell(1)
        await until(lambda: waiting.has_more)
        await asyncio.sleep(0.02)
        assert not log.is_read
        assert revisions(await waiting.take()) == [1, 2, 3, 4]
        await until(lambda: log.is_read)


async def test_why_the_reading_ended_is_raised_after_what_was_read() -> None:
    log = Following()
    with reading(log) as waiting:
        log.tell(1)
        log.end(LogDamaged("lost"))
        assert revisions(await waiting.take_full()) == [1]
        assert waiting.has_more
        for take in (waiting.take, waiting.take_full):
            with pytest.raises(LogDamaged):
                await take()
