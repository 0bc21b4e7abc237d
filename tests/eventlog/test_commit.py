"""Group commit: what it does to each caller's attempt, over a log that is watched or a real one."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.commit import GroupCommit
from eventlog.commit_queue import (
    BATCH_EVENTS_MAX,
    CROWD_EVENTS_MIN,
    FLIGHTS_MAX,
)
from eventlog.memory import MemoryEventLog
from eventlog.port import Attempt, Conflict, Refused, Stored, Unknown
from tests.eventlog.committing import WatchedLog, all_of, events_of, send, singles
from tests.support.events import attempt, draft, new_record, store, touched, traits
from tests.support.waiting import until


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


async def test_what_is_urgent_goes_out_before_the_loop_does_else(
    log: WatchedLog, commit: GroupCommit
) -> None:
    commit.send_urgent()  # nobody waits: nothing happens
    for one in singles(3):
        commit.submit(one, lambda _: None, timeout_seconds=10)
    commit.send_urgent()
    await asyncio.sleep(0)
    assert log.sizes == [3]


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
