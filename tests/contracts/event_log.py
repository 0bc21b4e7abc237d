"""What every implementation of `eventlog.port.EventLog` must do; adapters give its `log`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from domain.commands import CATEGORIES_MAX
from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import ChoiceMade, ChoicesRecorded
from domain.identity_events import IdentifierClaimed
from domain.ids import (
    CLOCK_STREAM,
    EVENTS_PER_APPEND_MAX,
    RECORDS_PER_CUSTOMER_MAX,
    WORKSPACE_STREAM,
    IdentifierKey,
    Stream,
    identifier_stream,
)
from domain.workspace_events import ClockAdvanced, PurposeDefined
from eventlog.errors import LogDamaged
from eventlog.port import (
    EMPTY,
    STREAMS_PER_READ_MAX,
    ZERO_DIGEST,
    Conflict,
    Entry,
    EventLog,
    Head,
    Refused,
    Stored,
)
from tests.support.events import NOON, attempt, draft, new_id, new_record, store, touched, traits


async def first(batches: AsyncIterator[list[Entry]], events: int) -> list[Entry]:
    """Take so many entries, within a deadline."""
    taken: list[Entry] = []
    async with asyncio.timeout(20):
        async for batch in batches:
            taken.extend(batch)
            if len(taken) >= events:
                break
    return taken


class EventLogContract:
    """Run by one adapter for each implementation."""

    async def test_what_is_stored_is_loaded_as_it_was_drafted(self, log: EventLog) -> None:
        stream = new_record()
        wanted = draft(stream, traits(name="戸籍", age=41, tags=["a", None, 1.5]))
        outcome = await store(log, wanted)
        [entry] = await log.load(stream)
        assert entry.event == outcome.events[0]
        event = entry.event
        assert event is not None
        assert event.body == wanted.body
        assert (event.event_id, event.command_id) == (wanted.event_id, wanted.command_id)
        assert (event.happened_at, event.recorded_at) == (wanted.happened_at, wanted.recorded_at)
        assert (event.version, event.auth_id) == (1, wanted.auth_id)
        assert (entry.version, entry.previous, entry.fault) == (1, ZERO_DIGEST, None)
        assert outcome.heads == {stream: entry.head}

    async def test_every_kind_of_stream_holds_events(self, log: EventLog) -> None:
        claimed = identifier_stream(IdentifierKey("p1.c2Vjb25k-_"))
        bodies = {
            new_record(): touched(),
            claimed: IdentifierClaimed(record_id=new_id()),
            WORKSPACE_STREAM: PurposeDefined(purpose="service", basis=LawfulBasis.CONTRACT),
            CLOCK_STREAM: ClockAdvanced(to=NOON),
        }
        await store(log, *(draft(stream, body) for stream, body in bodies.items()))
        for stream, body in bodies.items():
            [entry] = await log.load(stream)
            assert entry.stream == stream
            assert entry.event is not None
            assert entry.event.body == body

    async def test_an_event_names_the_one_before_it_on_its_stream(self, log: EventLog) -> None:
        stream, other = new_record(), new_record()
        one = await store(log, draft(stream))
        await store(log, draft(other))
        two = await store(log, draft(stream), after=one)
        await store(log, draft(stream), draft(stream), after=two)
        entries = await log.load(stream)
        assert [e.version for e in entries] == [1, 2, 3, 4]
        assert [e.previous for e in entries] == [ZERO_DIGEST, *(e.digest for e in entries[:-1])]

    async def test_loading_goes_on_after_a_head(self, log: EventLog) -> None:
        stream = new_record()
        one = await store(log, draft(stream))
        two = await store(log, draft(stream), after=one)
        assert [e.head for e in await log.load(stream, after=one.heads[stream])] == [
            two.heads[stream]
        ]
        assert await log.load(stream, after=two.heads[stream]) == []

    async def test_an_append_where_the_stream_moved_on_is_a_conflict(self, log: EventLog) -> None:
        stream = new_record()
        one = await store(log, draft(stream))
        stale = await log.append(attempt(draft(stream)), timeout_seconds=10)
        assert stale == Conflict()
        future = Head(one.revision + 7, 1, one.heads[stream].digest)
        ahead = attempt(draft(stream), expected={stream: future})
        assert await log.append(ahead, timeout_seconds=10) == Conflict()
        assert len(await log.load(stream)) == 1

    async def test_an_append_of_many_is_stored_whole_or_not_at_all(self, log: EventLog) -> None:
        streams = [new_record() for _ in range(5)]
        one = await store(log, draft(streams[3]))
        outcome = await log.append(attempt(*map(draft, streams)), timeout_seconds=10)
        assert outcome == Conflict()
        loaded = await log.load_many(dict.fromkeys(streams, EMPTY))
        assert [len(loaded[s]) for s in streams] == [0, 0, 0, 1, 0]
        both = await store(log, *map(draft, streams), after=one)
        assert [e.revision for e in both.events] == [2, 3, 4, 5, 6]

    async def test_one_append_may_hold_several_events_of_one_stream(self, log: EventLog) -> None:
        stream, other = new_record(), new_record()
        outcome = await store(log, draft(stream), draft(other), draft(stream), draft(stream))
        entries = await log.load(stream)
        assert [e.revision for e in entries] == [1, 3, 4]
        assert [e.event for e in entries] == [outcome.events[i] for i in (0, 2, 3)]
        assert outcome.heads[stream] == entries[-1].head

    async def test_streams_go_on_from_heads_whose_events_are_read_again(
        self, log: EventLog
    ) -> None:
        stream, other, new = new_record(), new_record(), new_record()
        one = await store(log, draft(stream), draft(other))
        two = await store(log, draft(stream), after=one)
        heads = {**one.heads, new: EMPTY}
        loaded = await log.load_many(heads, recheck=[stream, other])
        assert {s: [e.head for e in found] for s, found in loaded.items()} == {
            stream: [two.heads[stream]],
            other: [],
            new: [],
        }

    async def test_heads_are_read_without_the_events(self, log: EventLog) -> None:
        streams = [new_record(), new_record(), new_record()]
        one = await store(log, *map(draft, streams[:2]))
        two = await store(log, draft(streams[0]), after=one)
        assert await log.last_heads(streams) == {**one.heads, **two.heads}
        assert await log.last_heads(streams[:1]) == two.heads
        assert await log.last_heads([]) == {}

    @pytest.mark.parametrize(
        "change",
        [
            lambda head: head._replace(digest=bytes(32)),
            lambda head: head._replace(revision=head.revision - 1),
            lambda head: head._replace(revision=head.revision + 1),
            lambda head: head._replace(revision=head.revision + 1_000),
        ],
    )
    async def test_a_head_whose_event_is_another_one_or_gone_is_damage(
        self, log: EventLog, change: Callable[[Head], Head]
    ) -> None:
        stream = new_record()
        await store(log, draft(new_record()))
        stored = await store(log, draft(stream))
        head = change(stored.heads[stream])
        with pytest.raises(LogDamaged):
            await log.load_many({stream: head}, recheck=[stream])

    async def test_of_writers_that_race_exactly_one_wins(self, log: EventLog) -> None:
        stream = new_record()
        outcomes = await asyncio.gather(
            *(log.append(attempt(draft(stream)), timeout_seconds=10) for _ in range(20))
        )
        assert sum(isinstance(o, Stored) for o in outcomes) == 1
        assert outcomes.count(Conflict()) == 19
        assert len(await log.load(stream)) == 1

    async def test_an_append_holds_a_thousand_events_and_no_more(self, log: EventLog) -> None:
        drafts = [draft(new_record(), touched()) for _ in range(EVENTS_PER_APPEND_MAX + 1)]
        too_many = await log.append(attempt(*drafts), timeout_seconds=10)
        assert too_many == Refused("TOO_MANY_EVENTS")
        stored = await store(log, *drafts[1:])
        assert stored.revision == EVENTS_PER_APPEND_MAX
        shape = await log.shape()
        assert (shape.first_revision, shape.last_revision) == (1, EVENTS_PER_APPEND_MAX)

    async def test_choices_of_the_largest_customer_are_one_append(self, log: EventLog) -> None:
        act = ChoiceMade(
            act_id=new_id(), purpose="p" * 64, state=ConsentState.WITHDRAWN, happened_at=NOON
        )
        body = ChoicesRecorded(source="web", acts=(act,) * CATEGORIES_MAX)
        drafts = [draft(new_record(), body) for _ in range(RECORDS_PER_CUSTOMER_MAX)]
        stored = await store(log, *drafts)
        assert stored.revision == RECORDS_PER_CUSTOMER_MAX

    async def test_what_cannot_be_stored_is_refused_for_a_stable_reason(
        self, log: EventLog
    ) -> None:
        large = draft(new_record(), traits(text="x" * 2_000_000))
        assert await log.append(attempt(large), timeout_seconds=10) == Refused("EVENT_TOO_LARGE")
        wide = draft(new_record(), traits(number=2**80))
        assert await log.append(attempt(wide), timeout_seconds=10) == Refused("EVENT_NOT_ENCODABLE")
        assert await log.append(attempt(), timeout_seconds=10) == Refused("NO_EVENTS")
        assert (await log.shape()).last_revision == 0

    @pytest.mark.parametrize(
        "hostile",
        [
            "a\r\nkoseki-version: 9\r\n\r\n",
            "\x00\x01\x7f",
            " spaces and % signs ",
            "日本 \u2028 \U0001f600",
            "",
        ],
    )
    async def test_hostile_ids_come_back_as_they_were(self, log: EventLog, hostile: str) -> None:
        stream = new_record()
        await store(log, draft(stream, auth_id=hostile, correlation_id=hostile))
        [entry] = await log.load(stream)
        assert entry.event is not None
        assert entry.event.auth_id == hostile
        assert entry.version == 1

    async def test_a_long_stream_is_loaded_whole(self, log: EventLog) -> None:
        stream = new_record()
        after = None
        for _ in range(3):
            after = await store(log, *(draft(stream) for _ in range(800)), after=after)
        entries = await log.load(stream)
        assert [e.version for e in entries] == list(range(1, 2_401))

    async def test_last_entries_are_those_of_streams_that_have_one(self, log: EventLog) -> None:
        streams = [new_record() for _ in range(1_500)]
        heads: dict[Stream, Head] = {}
        for part in (streams[:700], streams[700:1_400]):
            heads.update((await store(log, *(draft(s, touched()) for s in part))).heads)
        found = await log.last_entries(streams)
        assert {stream: entry.head for stream, entry in found.items()} == heads
        assert await log.last_entries([new_record()]) == {}
        assert await log.last_entries([]) == {}

    async def test_the_leader_tells_revisions_in_the_order_asked(self, log: EventLog) -> None:
        streams = [new_record() for _ in range(3)]
        await store(log, draft(streams[0]), draft(streams[2]), draft(streams[0]))
        assert await log.leader_revisions(streams) == [3, 0, 2]

    async def test_reading_gives_every_event_in_order_and_ends(self, log: EventLog) -> None:
        assert [b async for b in log.read()] == []
        stored = [await store(log, *(draft(new_record()) for _ in range(n))) for n in (1, 30, 2)]
        events = [event for outcome in stored for event in outcome.events]
        batches = [b async for b in log.read(batch_events_max=7)]
        assert all(1 <= len(b) <= 7 for b in batches)
        assert [e.event for b in batches for e in b] == events
        rest = [e.revision async for b in log.read(after_revision=31) for e in b]
        assert rest == [32, 33]
        assert [b async for b in log.read(after_revision=33)] == []

    async def test_reading_ends_at_a_revision_or_at_the_logs_end(self, log: EventLog) -> None:
        await store(log, *(draft(new_record()) for _ in range(9)))
        for bound, last in ((1, 1), (4, 4), (5, 5), (9, 9), (50, 9)):
            found = log.read(after_revision=0, through_revision=bound, batch_events_max=4)
            assert [e.revision async for b in found for e in b] == list(range(1, last + 1))
        assert [b async for b in log.read(through_revision=0)] == []
        assert [b async for b in log.read(after_revision=5, through_revision=5)] == []

    async def test_as_of_a_time_is_the_longest_prefix_that_was_recorded_by_then(
        self, log: EventLog
    ) -> None:
        # Clocks of writers differ: what comes after a later event is later too (R15).
        minutes = (1, 2, 2, 5, 3, 4, 6)
        times = [NOON + timedelta(minutes=minute) for minute in minutes]
        await store(log, *(draft(new_record(), recorded_at=time) for time in times))
        for minute, events in ((0, 0), (1, 1), (2, 3), (3, 3), (4, 3), (5, 6), (6, 7), (9, 7)):
            found = log.read(as_of=NOON + timedelta(minutes=minute), batch_events_max=2)
            assert len([e async for b in found for e in b]) == events
        both = log.read(as_of=NOON + timedelta(minutes=5), through_revision=4)
        assert [e.revision async for b in both for e in b] == [1, 2, 3, 4]

    async def test_some_streams_are_read_together_in_the_logs_order(self, log: EventLog) -> None:
        streams = [new_record() for _ in range(12)]
        after = None
        for _ in range(5):
            after = await store(log, *map(draft, streams), after=after)
        wanted = [streams[2], streams[7], new_record(), streams[11]]
        found = [b async for b in log.read(streams=wanted, batch_events_max=4)]
        assert all(1 <= len(b) <= 4 for b in found)
        revisions = [12 * lap + place for lap in range(5) for place in (3, 8, 12)]
        assert [e.revision for b in found for e in b] == revisions
        assert {e.stream for b in found for e in b} == {wanted[0], wanted[1], wanted[3]}
        part = log.read(streams=wanted, after_revision=8, through_revision=32)
        assert [e.revision async for b in part for e in b] == [12, 15, 20, 24, 27, 32]
        assert [b async for b in log.read(streams=[new_record()])] == []
        assert [b async for b in log.read(streams=[])] == []

    async def test_a_read_of_more_streams_than_its_limit_is_a_mistake(self, log: EventLog) -> None:
        streams = [new_record() for _ in range(STREAMS_PER_READ_MAX + 1)]
        await store(log, draft(streams[0]), draft(streams[-2]))
        with pytest.raises(ValueError, match="at most"):
            [b async for b in log.read(streams=streams)]
        found = [e.stream async for b in log.read(streams=streams[:-1]) for e in b]
        assert found == [streams[0], streams[-2]]

    async def test_an_entry_says_whether_its_append_ends_there(self, log: EventLog) -> None:
        for events in (1, 3, 2, 1):
            await store(log, *(draft(new_record()) for _ in range(events)))
        ends = [e.revision async for b in log.read(batch_events_max=2) for e in b if e.ends_append]
        assert ends == [1, 4, 6, 7]

    async def test_following_gives_what_is_there_and_what_comes(self, log: EventLog) -> None:
        await store(log, draft(new_record()), draft(new_record()))
        following = log.follow(after_revision=1)
        assert [e.revision for e in await first(following, 1)] == [2]
        taken = asyncio.create_task(first(log.follow(after_revision=0), 5))
        stored = [await store(log, draft(new_record())) for _ in range(3)]
        assert [e.revision for e in await taken] == [1, 2, 3, 4, 5]
        assert stored[-1].revision == 5

    async def test_a_new_log_has_an_unbroken_shape(self, log: EventLog) -> None:
        assert (await log.shape()).faults == ()
        await store(log, draft(new_record()))
        shape = await log.shape()
        assert (shape.first_revision, shape.last_revision, shape.faults) == (1, 1, ())
        assert shape.server_time is not None
