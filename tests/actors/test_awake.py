"""The memory of a host: what is kept, what is newer, who falls asleep; and waking from the log."""

from __future__ import annotations

import pytest

from actors.awake import AwakeCustomers, AwakeRecord, Waker
from actors.snapshots import RecordSnapshots
from domain.ids import RecordId
from domain.record import Record
from eventlog.errors import LogUnavailable
from eventlog.memory import MemoryEventLog
from eventlog.port import Head
from tests.actors.house import consent, identify, loyalty, track, user, workspace

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


def awake(customers_max: int = 10, idle_seconds: float = 10.0) -> tuple[AwakeCustomers, Hand]:
    hand = Hand()
    kept = AwakeCustomers(customers_max=customers_max, idle_seconds=idle_seconds, now=hand)
    return kept, hand


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
