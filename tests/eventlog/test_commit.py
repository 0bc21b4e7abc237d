"""Group commit: what it does to each caller's attempt, over a log that is watched or a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from domain.ids import EventId, Stream
from eventlog.commit import GroupCommit
from eventlog.commit_queue import (
    BATCH_EVENTS_MAX,
    CROWD_EVENTS_MIN,
    FLIGHTS_MAX,
    GATHER_SECONDS,
    GATHERED_EVENTS_MAX,
    RESTS_PER_FLIGHT,
)
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.memory import MemoryEventLog
from eventlog.port import Attempt, Conflict, Entry, Outcome, Refused, Stored, Unknown
from tests.support.events import attempt, draft, new_record, store, touched, traits
from tests.support.waiting import until


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


async def test_what_arrives_together_goes_out_together(
    log: WatchedLog, commit: GroupCommit
) -> None:
    attempts = [
        *singles(3),
        attempt(draft(stream := new_record()), draft(stream), draft(new_record())),
    ]
    outcomes = await all_of(commit, *attempts)
    assert log.sizes == [6]
    for one, outcome in zip(attempts, outcomes, strict=True):
        assert isinstance(outcome, Stored)
        assert [e.event_id for e in outcome.events] == [d.event_id for d in one.drafts]
        assert outcome.heads.keys() == one.expected.keys()
        for stream, head in outcome.heads.items():
            assert (await log.load(stream))[-1].head == head


async def test_what_arrives_during_an_append_waits_for_it_and_then_goes_out_as_one(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    first = send(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    later = send(commit, *singles(5))
    await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(*first, *later)
    assert log.sizes == [1, 5]


async def test_a_crowd_goes_out_in_parts_of_limited_size_a_few_at_once(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    sent = send(commit, *singles(FLIGHTS_MAX * BATCH_EVENTS_MAX + CROWD_EVENTS_MIN))
    await until(lambda: len(log.batches) == FLIGHTS_MAX)
    await asyncio.sleep(0)
    assert log.sizes == [BATCH_EVENTS_MAX] * FLIGHTS_MAX
    log.gate.set()
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [BATCH_EVENTS_MAX] * FLIGHTS_MAX + [CROWD_EVENTS_MIN]


async def test_an_attempt_is_never_split(log: WatchedLog, commit: GroupCommit) -> None:
    large = [attempt(*(draft(new_record(), touched()) for _ in range(600))) for _ in range(2)]
    over = attempt(*(draft(new_record(), touched()) for _ in range(1_001)))
    outcomes = await all_of(commit, *large, over, *singles(1))
    assert sorted(log.sizes) == [1, 600, 600, 1_001]
    assert [type(outcome) for outcome in outcomes] == [Stored, Stored, Refused, Stored]
    assert outcomes[2] == Refused("TOO_MANY_EVENTS")


async def test_attempts_that_share_a_stream_go_one_after_another_in_order(
    log: WatchedLog, commit: GroupCommit
) -> None:
    shared, other = new_record(), new_record()
    first = attempt(draft(shared), draft(other))
    # The second stands on the first's outcome; here its expectation is put together by hand.
    memory = MemoryEventLog("test")
    before = await store(memory, *first.drafts)
    second = attempt(draft(shared), expected={shared: before.heads[shared]})
    third = attempt(draft(other), expected={other: before.heads[other]})
    free = singles(1)[0]
    outcomes = await all_of(commit, first, second, third, free)
    assert [type(outcome) for outcome in outcomes] == [Stored] * 4
    assert log.batches[0].drafts == (*first.drafts, *free.drafts)
    assert log.batches[1].drafts == (*second.drafts, *third.drafts)


async def test_a_loser_is_found_by_one_read_of_the_heads_and_the_rest_is_stored(
    log: WatchedLog, commit: GroupCommit
) -> None:
    taken = new_record()
    await store(log, draft(taken))
    log.batches.clear()
    loser, *others = attempt(draft(taken)), *singles(9)
    outcomes = await all_of(commit, *others[:4], loser, *others[4:])
    assert outcomes.pop(4) == Conflict()
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert log.sizes == [10, 9]
    assert log.reads_of_heads == 1


async def test_a_stream_that_lost_goes_out_apart_until_it_stores_something(
    log: WatchedLog, commit: GroupCommit
) -> None:
    taken = new_record()
    before = await store(log, draft(taken))
    await all_of(commit, *singles(4), attempt(draft(taken)))
    log.batches.clear()
    outcomes = await all_of(commit, *singles(4), attempt(draft(taken)))
    assert [type(outcome) for outcome in outcomes] == [Stored] * 4 + [Conflict]
    assert sorted(log.sizes) == [1, 4]
    [outcome] = await all_of(commit, attempt(draft(taken), expected=before.heads))
    assert isinstance(outcome, Stored)
    log.batches.clear()
    again = attempt(draft(taken), expected=outcome.heads)
    await all_of(commit, *singles(4), again)
    assert log.sizes == [5]


async def test_what_shared_an_attempt_with_a_stream_that_lost_is_not_suspect(
    log: WatchedLog, commit: GroupCommit
) -> None:
    taken, other = new_record(), new_record()
    await store(log, draft(taken))
    await all_of(commit, *singles(4), attempt(draft(taken), draft(other)))
    log.batches.clear()
    await all_of(commit, *singles(4), attempt(draft(other)))
    assert log.sizes == [5]


async def test_where_the_heads_cannot_be_read_every_attempt_is_tried_by_itself(
    log: WatchedLog, commit: GroupCommit
) -> None:
    taken = new_record()
    await store(log, draft(taken))
    log.heads_are_readable = False
    outcomes = await all_of(commit, *singles(3), attempt(draft(taken)))
    assert [type(outcome) for outcome in outcomes] == [Stored] * 3 + [Conflict]


async def test_an_attempt_that_can_never_be_stored_is_refused_alone(
    log: WatchedLog, commit: GroupCommit
) -> None:
    endless = attempt(draft(new_record(), traits(age=2**70)))
    outcomes = await all_of(commit, *singles(40), endless, *singles(23))
    assert outcomes.pop(40) == Refused("EVENT_NOT_ENCODABLE")
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert len(log.batches) < 20
    assert await all_of(commit, Attempt((), {})) == [Refused("NO_EVENTS")]


@pytest.mark.parametrize("stored", [True, False])
async def test_an_unknown_outcome_is_told_to_all_and_nothing_is_sent_again(
    log: WatchedLog, commit: GroupCommit, *, stored: bool
) -> None:
    log.answer_unknown(1, stored=stored)
    assert await all_of(commit, *singles(3)) == [Unknown()] * 3
    assert log.sizes == [3]
    assert len(await events_of(log)) == (3 if stored else 0)
    assert isinstance((await all_of(commit, *singles(1)))[0], Stored)


async def test_a_caller_whose_time_is_up_before_its_turn_is_refused_and_never_sent(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    first = send(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    [late] = send(commit, *singles(1), timeout=0.01)
    [patient] = send(commit, *singles(1))
    assert await late == Refused("LOG_UNAVAILABLE")
    log.gate.set()
    await asyncio.gather(*first, patient)
    assert log.sizes == [1, 1]
    assert len(await events_of(log)) == 2


async def test_a_caller_whose_time_is_up_after_it_was_sent_does_not_know(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    [patient, hurried] = [*send(commit, *singles(1)), *send(commit, *singles(1), timeout=0.01)]
    assert await hurried == Unknown()
    assert not patient.done()
    log.gate.set()
    assert isinstance(await patient, Stored)


async def test_a_caller_that_went_away_while_it_waited_is_not_sent(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    first = send(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    [gone, patient] = send(commit, *singles(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(*first, patient)
    assert log.sizes == [1, 1]


def patient(commit: GroupCommit, *attempts: Attempt) -> list[asyncio.Task[Outcome]]:
    """Give attempts that may wait to a group commit."""
    return [
        asyncio.create_task(commit.append(a, timeout_seconds=10, may_wait=True)) for a in attempts
    ]


async def test_what_may_wait_gathers_and_goes_out_before_long(
    log: WatchedLog, commit: GroupCommit
) -> None:
    first = patient(commit, *singles(3))
    await asyncio.sleep(0.001)
    assert log.sizes == []
    outcomes = await asyncio.gather(*first, *patient(commit, *singles(2)))
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert log.sizes == [5]


@pytest.mark.parametrize("let_go", [GroupCommit.hurry, GroupCommit.end_gathering])
async def test_what_may_wait_is_let_go_before_its_time(
    log: WatchedLog,
    commit: GroupCommit,
    monkeypatch: pytest.MonkeyPatch,
    let_go: Callable[[GroupCommit], None],
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.GATHER_SECONDS", 60.0)
    let_go(commit)  # nobody waits: nothing happens
    sent = patient(commit, *singles(3))
    await asyncio.sleep(0.001)
    assert log.sizes == []
    let_go(commit)
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [3]


async def flown(log: WatchedLog, commit: GroupCommit, seconds: float) -> None:
    """Have a batch of what may wait on its way for so long."""
    log.gate.clear()
    sent = patient(commit, *singles(1))
    await asyncio.sleep(0)
    commit.end_gathering()
    await until(lambda: log.sizes == [1])
    await asyncio.sleep(seconds)
    log.gate.set()
    await asyncio.gather(*sent)


async def test_a_small_batch_of_what_may_wait_rests_after_the_one_before(
    log: WatchedLog, commit: GroupCommit
) -> None:
    loop = asyncio.get_running_loop()
    await flown(log, commit, 0.02)
    landed = loop.time()
    sent = patient(commit, *singles(2))
    await asyncio.sleep(0)
    commit.end_gathering()
    urgent = send(commit, *singles(1))
    await asyncio.gather(*urgent)
    assert log.sizes == [1, 1]
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert loop.time() - landed >= RESTS_PER_FLIGHT * 0.02
    assert log.sizes == [1, 1, 2]


@pytest.mark.parametrize(
    ("events", "let_go"),
    [(2, GroupCommit.hurry), (CROWD_EVENTS_MIN, GroupCommit.end_gathering)],
)
async def test_neither_a_crowd_nor_what_is_hurried_rests(
    log: WatchedLog,
    commit: GroupCommit,
    monkeypatch: pytest.MonkeyPatch,
    events: int,
    let_go: Callable[[GroupCommit], None],
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.REST_SECONDS_MAX", 60.0)
    monkeypatch.setattr("eventlog.commit_queue.RESTS_PER_FLIGHT", 10_000)
    await flown(log, commit, 0.01)
    sent = patient(commit, *singles(events))
    await asyncio.sleep(0)
    let_go(commit)
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [1, events]


async def test_what_is_hurried_while_another_batch_is_on_its_way_goes_once_that_has_landed(
    log: WatchedLog, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventlog.commit_queue.REST_SECONDS_MAX", 60.0)
    monkeypatch.setattr("eventlog.commit_queue.RESTS_PER_FLIGHT", 10**9)
    log.gate.clear()
    sent = patient(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    sent += patient(commit, *singles(2))
    await asyncio.sleep(0)
    commit.hurry()
    log.gate.set()
    assert all(isinstance(outcome, Stored) for outcome in await asyncio.gather(*sent))
    assert log.sizes == [1, 2]


async def test_what_is_urgent_goes_out_before_the_loop_does_else(
    log: WatchedLog, commit: GroupCommit
) -> None:
    commit.send_urgent()  # nobody waits: nothing happens
    for one in singles(3):
        commit.submit(one, lambda _: None, timeout_seconds=10)
    commit.send_urgent()
    await asyncio.sleep(0)
    assert log.sizes == [3]


async def test_what_may_not_wait_passes_what_may(log: WatchedLog, commit: GroupCommit) -> None:
    log.gate.clear()
    crowd = patient(commit, *singles((FLIGHTS_MAX + 1) * GATHERED_EVENTS_MAX))
    await until(lambda: len(log.batches) == FLIGHTS_MAX)
    urgent = send(commit, *singles(2))
    await until(lambda: len(log.batches) == FLIGHTS_MAX + 1)
    assert log.sizes == [GATHERED_EVENTS_MAX] * FLIGHTS_MAX + [2]
    log.gate.set()
    assert all(isinstance(o, Stored) for o in await asyncio.gather(*urgent, *crowd))


async def test_enough_that_may_wait_waits_no_longer(log: WatchedLog, commit: GroupCommit) -> None:
    log.gate.clear()
    sent = patient(commit, *singles(GATHERED_EVENTS_MAX))
    for _ in range(4):
        await asyncio.sleep(0)
    assert log.sizes == [GATHERED_EVENTS_MAX]
    more = patient(commit, *singles(GATHERED_EVENTS_MAX - 1))
    await asyncio.sleep(2 * GATHER_SECONDS)
    assert log.sizes == [GATHERED_EVENTS_MAX]
    more += patient(commit, *singles(1))
    await until(lambda: log.sizes == [GATHERED_EVENTS_MAX] * 2)
    log.gate.set()
    await asyncio.gather(*sent, *more)


async def test_what_may_wait_is_not_forgotten_behind_an_append(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    first = patient(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    waiting = patient(commit, *singles(3))
    await asyncio.sleep(2 * GATHER_SECONDS)
    assert log.sizes == [1]
    log.gate.set()
    outcomes = await asyncio.gather(*first, *waiting)
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert log.sizes == [1, 3]


async def test_closing_leaves_nothing_on_its_way_and_sends_nothing_more(
    log: WatchedLog, commit: GroupCommit
) -> None:
    log.gate.clear()
    sent = send(commit, *singles(1))
    await until(lambda: log.sizes == [1])
    waiting = send(commit, *singles(2))
    await asyncio.sleep(0)
    await commit.close()
    assert await asyncio.gather(*sent) == [Unknown()]
    assert await asyncio.gather(*waiting) == [Refused("LOG_UNAVAILABLE")] * 2
    assert await all_of(commit, *singles(1)) == [Refused("LOG_UNAVAILABLE")]
    assert log.sizes == [1]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "group-commit"]
