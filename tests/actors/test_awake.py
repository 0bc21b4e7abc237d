"""The memory of a host: what is kept, what is newer, who falls asleep; and waking from the log."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from actors.awake import AwakeCustomers, AwakeRecord
from actors.snapshots import RecordSnapshots
from actors.waking import Waker
from domain.consent import ConsentAct, ConsentState
from domain.ids import CommandId, EventId, RecordId
from domain.record import Record, RememberedCommand, TraitValue
from domain.signals import signal_key
from eventlog.errors import LogUnavailable
from eventlog.memory import MemoryEventLog
from eventlog.port import Head
from tests.actors.house import consent, ident, identify, loyalty, track, user, workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONE, TWO, THREE = RecordId("1"), RecordId("2"), RecordId("3")
A, B = user("a"), loyalty("b")


def alone(record_id: RecordId, revision: int) -> AwakeRecord:
    record = Record(id=record_id, root=record_id, component=(record_id,))
    return AwakeRecord(record, Head(revision, 1, bytes(32)))


def joined(revision: int, root: RecordId, *members: RecordId) -> list[AwakeRecord]:
    component = (root, *members)
    records = [Record(id=root, root=root, component=component)]
    records += [Record(id=member, root=root, component=()) for member in members]
    return [AwakeRecord(record, Head(revision, 2, bytes(32))) for record in records]


class Hand:
    """A clock hand for idle times."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def awake(
    customers_max: int = 10, idle_seconds: float = 10.0, unpacked_max: int = 10
) -> tuple[AwakeCustomers, Hand]:
    hand = Hand()
    kept = AwakeCustomers(
        customers_max=customers_max, idle_seconds=idle_seconds, unpacked_max=unpacked_max, now=hand
    )
    return kept, hand


def usual_record(record: Record) -> Record:
    """Give a record 10 identifiers, 20 traits, 5 acts and 50 signals."""
    items = [ident("email", f"{uuid4().hex}@example.org") for _ in range(10)]
    event_ids = [EventId(str(uuid4())) for _ in range(20)]
    acts = [
        ConsentAct(
            act_id=event_id,
            purpose="marketing",
            state=ConsentState.GIVEN,
            effective_at=NOW,
            revision=10**9,
            event_id=event_id,
            notice_version="v3",
        )
        for event_id in event_ids[:5]
    ]
    return replace(
        record,
        identifiers={item.key: item for item in items},
        traits={
            f"trait_{number}": {"shop": TraitValue(f"value {event_id}", NOW, event_id)}
            for number, event_id in enumerate(event_ids)
        },
        acts=tuple(acts),
        messages={signal_key("shop", uuid4().hex): "recorded" for _ in range(50)},
        commands={CommandId(e): RememberedCommand(10**9) for e in event_ids},
    )


def test_a_merged_customer_takes_the_place_of_the_ones_before() -> None:
    kept, _ = awake()
    kept.keep([alone(ONE, 1), alone(TWO, 2)])
    kept.keep(joined(3, ONE, TWO))
    assert len(kept) == 1
    assert (kept.root_of(ONE), kept.root_of(TWO)) == (ONE, ONE)
    assert set(kept.records_of(ONE)) == {ONE, TWO}


def test_what_is_older_than_what_is_known_is_not_kept() -> None:
    kept, _ = awake()
    kept.keep([alone(ONE, 5)])
    kept.keep([alone(ONE, 4), alone(TWO, 1)])
    assert kept.head_of(ONE).revision == 5
    assert kept.root_of(TWO) == TWO
    kept.keep(joined(6, ONE, TWO))
    kept.keep([alone(TWO, 2)])
    assert kept.root_of(TWO) == ONE


def test_who_is_forgotten_is_forgotten_whole() -> None:
    kept, _ = awake()
    kept.keep(joined(3, ONE, TWO))
    kept.forget(TWO)
    assert (len(kept), kept.root_of(ONE), kept.head_of(ONE).revision) == (0, None, 0)
    kept.forget(TWO)


@pytest.mark.parametrize(("idle", "left"), [(10.0, 2), (10.1, 1)])
def test_who_was_idle_for_longer_than_allowed_sleeps(idle: float, left: int) -> None:
    kept, hand = awake()
    kept.keep([alone(ONE, 1)])
    hand.seconds = idle
    kept.keep([alone(TWO, 1)])
    kept.passivate(busy=lambda _: False)
    assert len(kept) == left


def test_over_the_cap_the_least_recently_used_sleep_but_nobody_busy() -> None:
    kept, hand = awake(customers_max=2)
    kept.keep([alone(ONE, 1), alone(TWO, 1)])
    assert kept.passivate(busy=lambda _: False) == 0
    hand.seconds = 1
    kept.records_of(ONE)
    kept.keep([alone(THREE, 1)])
    assert kept.passivate(busy=lambda root: root == TWO) == 1
    assert (kept.root_of(ONE), kept.root_of(TWO), kept.root_of(THREE)) == (None, TWO, THREE)


def test_what_a_customer_holds_any_of_its_records_holds() -> None:
    kept, _ = awake()
    records = joined(3, ONE, TWO)
    records[1] = AwakeRecord(
        Record(id=TWO, root=ONE, component=(), identifiers={A.key: A}), records[1].head
    )
    kept.keep(records)
    assert kept.holds(ONE, A.key)
    assert kept.holds(TWO, A.key)
    assert not kept.holds(ONE, B.key)
    assert not kept.holds(THREE, A.key)


def test_a_customer_that_was_packed_is_as_it_was() -> None:
    kept, _ = awake(unpacked_max=1)
    merged = [item._replace(record=usual_record(item.record)) for item in joined(3, ONE, TWO)]
    other = alone(THREE, 1)
    kept.keep(merged)
    kept.keep([other])
    for _ in range(2):
        assert list(kept.records_of(ONE).values()) == merged
        assert list(kept.records_of(THREE).values()) == [other]
    assert kept.head_of(TWO) == merged[1].head
    assert kept.holds(TWO, next(iter(merged[0].record.identifiers)))
    kept.keep([AwakeRecord(merged[0].record, Head(4, 3, bytes(32))), merged[1]])
    kept.records_of(THREE)
    assert kept.records_of(ONE)[ONE].head.revision == 4
    kept.forget(THREE)
    kept.records_of(ONE)
    assert kept.root_of(THREE) is None


def test_an_awake_customer_takes_no_more_than_8_kib() -> None:
    customers = 2_000
    kept, _ = awake(customers_max=customers, unpacked_max=customers // 50)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(customers):
            record_id = RecordId(str(uuid4()))
            record = usual_record(Record(id=record_id, root=record_id, component=(record_id,)))
            kept.keep([AwakeRecord(record, Head(10**9 + number, 500, os.urandom(32)))])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == customers
    assert (after - before) / customers <= 8_192


async def test_waking_any_record_wakes_the_whole_customer() -> None:
    log = MemoryEventLog("test")
    async with workspace(log=log) as house:
        roots = [str((await house.done(track(f"m{n}", user(str(n))))).customer_id) for n in "1234"]
        for n in "234":
            await house.done(identify(user("1"), user(n)))
        await house.done(consent("given", user("4")))
    for root in roots:
        found, unreadable = await Waker(log, RecordSnapshots(None)).wake([RecordId(root)], {})
        assert sorted(item.record.id for item in found) == sorted(roots)
        assert {item.record.root for item in found} == {min(roots)}
        assert not unreadable


async def test_waking_reads_on_from_what_is_known() -> None:
    log = MemoryEventLog("test")
    async with workspace(log=log) as house:
        root = RecordId(str((await house.done(track("m1", A))).customer_id))
        (known,), _ = await Waker(log, RecordSnapshots(None)).wake([root], {})
        await house.done(track("m2", A))
    (fresh,), _ = await Waker(log, RecordSnapshots(None)).wake([root], {root: known})
    (whole,), _ = await Waker(log, RecordSnapshots(None)).wake([root], {})
    assert fresh == whole
    assert fresh.head.version == known.head.version + 1


async def test_waking_says_when_the_log_is_away() -> None:
    log = MemoryEventLog("test")
    log.is_available = False
    with pytest.raises(LogUnavailable):
        await Waker(log, RecordSnapshots(None)).wake([ONE], {})
