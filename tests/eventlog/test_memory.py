from __future__ import annotations

import pytest

from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.memory import MemoryEventLog
from eventlog.port import Conflict, Refused, Stored, Unknown
from tests.contracts.event_log import EventLogContract
from tests.support.events import attempt, draft, new_record, store


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog("memory")


class TestMemoryEventLog(EventLogContract):
    pass


async def test_a_lost_acknowledgement_is_settled_as_stored(log: MemoryEventLog) -> None:
    log.lose_acknowledgements(1)
    stream = new_record()
    outcome = await log.append(attempt(draft(stream), draft(new_record())), timeout_seconds=1)
    assert isinstance(outcome, Stored)
    assert [e.revision for e in outcome.events] == [1, 2]
    assert outcome.heads[stream] == (await log.load(stream))[-1].head


async def test_a_lost_conflict_is_settled_as_a_conflict(log: MemoryEventLog) -> None:
    stream = new_record()
    await store(log, draft(stream))
    log.lose_acknowledgements(1)
    assert await log.append(attempt(draft(stream)), timeout_seconds=1) == Conflict()


@pytest.mark.parametrize("is_stored", [True, False])
async def test_an_outcome_can_stay_unknown(log: MemoryEventLog, *, is_stored: bool) -> None:
    log.answer_unknown(1, stored=is_stored)
    stream = new_record()
    assert await log.append(attempt(draft(stream)), timeout_seconds=1) == Unknown()
    assert len(await log.load(stream)) == is_stored


async def test_a_damaged_body_breaks_the_chain_of_the_next_event(log: MemoryEventLog) -> None:
    stream = new_record()
    one = await store(log, draft(stream))
    await store(log, draft(stream), after=one)
    log.damage_body(1, b"{}")
    with pytest.raises(LogDamaged):
        await log.load(stream)


async def test_a_body_that_cannot_be_decoded_keeps_its_place(log: MemoryEventLog) -> None:
    stream = new_record()
    await store(log, draft(stream))
    log.damage_body(1, b"not json")
    [entry] = await log.load(stream)
    assert entry.event is None
    assert (entry.revision, entry.version, entry.fault) == (1, 1, "body: the body is not JSON")


async def test_a_log_that_is_away_says_so(log: MemoryEventLog) -> None:
    log.is_available = False
    refused = await log.append(attempt(draft(new_record())), timeout_seconds=1)
    assert refused == Refused("LOG_UNAVAILABLE")
    with pytest.raises(LogUnavailable):
        await log.load(new_record())
