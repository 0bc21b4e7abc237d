"""A customer that is kept is what would be made anew: after every append, at every time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentState
from domain.ids import RecordId, record_stream
from domain.preference_events import HouseholdLinked
from eventlog.keys.port import DataKey, KeyAnswer, NoKey
from koseki.v1 import query_service_pb2
from projections.clock import read_clock
from projections.errors import CustomerParked, KeysNotHeld
from projections.fold import SEALED, fold_batch
from projections.memory import MemoryTables
from projections.rows import RowCodec, SealedRows
from projections.tables import ReadTables
from projections.views import customer_view
from services import kept as module
from services.answers import customer_message
from services.kept import KeptCustomers, Name
from tests.projections.histories import START, History, batches, random_history, record_id, signal
from tests.support.waiting import until

RECORDS = 5
PURPOSES = ("analytics", "marketing", "service")
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
Message = query_service_pb2.Customer


class Keys:
    """The key of every record, until it is destroyed."""

    def __init__(self) -> None:
        self.answer: KeyAnswer | None = DataKey(bytes(range(32)))

    def key_of(self, _record_id: RecordId) -> KeyAnswer | None:
        return self.answer

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Have no more than there is."""


class CountingTables(MemoryTables):
    """Rows that count how often somebody was read anew: only then keys are asked for."""

    def __init__(self, codec: RowCodec | None = None) -> None:
        super().__init__(codec)
        self.made = 0

    def need(self, record_ids: Iterable[RecordId]) -> None:
        self.made += 1
        super().need(record_ids)


def ask(
    kept: KeptCustomers,
    tables: ReadTables,
    record: RecordId,
    *,
    purpose: str = "analytics",
    now: datetime = LONG_AGO,
) -> Message | None:
    """Ask as `QueryService` does: what is at hand is what the snapshot gives."""
    name: Name = ("id", record, purpose)
    at_hand = kept.at_hand(name, tables.checkpoint, tables.codec, now=now)
    found = kept.answer(tables, name, now=now)
    assert at_hand in (None, found)
    assert kept.at_hand(name, tables.checkpoint, tables.codec, now=now) in (None, found)
    if found is None:
        return None
    return query_service_pb2.GetCustomerResponse.FromString(found).customer


def made_anew(tables: ReadTables, record: RecordId, purpose: str, now: datetime) -> Message | None:
    view = customer_view(tables, record, purpose, now=now)
    return None if view is None else customer_message(view)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100_000), st.integers(1, 4))
def test_whoever_is_kept_is_seen_as_made_anew_after_every_append(seed: int, size: int) -> None:
    history = random_history(seed, events=40, records=RECORDS)
    tables, kept = CountingTables(), KeptCustomers()
    for batch in batches(history.entries, size):
        fold_batch(tables, batch)
        for number in range(RECORDS):
            for purpose in PURPOSES:
                record = record_id(number)
                # Some are asked as of a time at which their agreements have run out.
                for now in (LONG_AGO, read_clock(tables) + timedelta(days=seed % 3 * 400)):
                    try:
                        fresh = made_anew(tables, record, purpose, now)
                    except Exception as error:  # noqa: BLE001  # the same must come
                        with pytest.raises(type(error)):
                            ask(kept, tables, record, purpose=purpose, now=now)
                        continue
                    assert ask(kept, tables, record, purpose=purpose, now=now) == fresh
                    assert ask(kept, tables, record, purpose=purpose, now=now) == fresh


@pytest.fixture
def history() -> History:
    history = History()
    history.rules()
    history.traits(1, {"city": "Kyoto"})
    history.signals(1, signal("a"))
    history.traits(2, {"city": "Nara"})
    return history


def test_what_nothing_has_touched_is_not_made_again(history: History) -> None:
    tables, kept = CountingTables(), KeptCustomers()
    fold_batch(tables, history.entries)
    ask(kept, tables, record_id(1))
    fold_batch(tables, history.traits(2, {"city": "Osaka"}))
    found = ask(kept, tables, record_id(1))
    assert found is not None
    assert found.revision == tables.checkpoint.revision
    assert tables.made == 1
    name: Name = ("id", record_id(1), "analytics")
    assert kept.at_hand(name, tables.checkpoint, tables.codec, now=LONG_AGO) is not None
    fold_batch(tables, history.signals(1, signal("b")))
    ask(kept, tables, record_id(1))
    assert tables.made == 2


def test_an_agreement_that_runs_out_is_not_given_from_what_is_kept(history: History) -> None:
    tables, kept = CountingTables(), KeptCustomers()
    fold_batch(tables, history.entries)
    until = read_clock(tables) + timedelta(seconds=20)
    fold_batch(tables, history.consent(1, "marketing", ConsentState.GIVEN, until=until))
    asked = [until - timedelta(seconds=2), until - timedelta(microseconds=1), until]
    found = [ask(kept, tables, record_id(1), purpose="marketing", now=now) for now in asked]
    assert [bool(answer and answer.purpose_open) for answer in found] == [True, True, False]
    assert tables.made == 2


def test_a_kept_answer_does_not_outlive_its_key(history: History) -> None:
    keys = Keys()
    tables, kept = MemoryTables(SealedRows(SEALED, keys)), KeptCustomers()
    fold_batch(tables, history.entries)
    found = ask(kept, tables, record_id(1))
    assert found is not None
    assert found.traits
    keys.answer = NoKey.DESTROYED
    erased = ask(kept, tables, record_id(1))
    assert erased is not None
    assert not erased.traits
    keys.answer = None
    with pytest.raises(KeysNotHeld):
        ask(kept, tables, record_id(1))


def test_nothing_is_kept_for_long_nor_without_number(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, kept = CountingTables(), KeptCustomers()
    fold_batch(tables, history.entries)
    now = read_clock(tables)
    ask(kept, tables, record_id(1), now=now)
    just_before = now + timedelta(seconds=module.KEPT_SECONDS_MAX - 1)
    ask(kept, tables, record_id(1), now=just_before)
    assert tables.made == 1
    ask(kept, tables, record_id(1), now=just_before + timedelta(seconds=1))
    assert tables.made == 2
    monkeypatch.setattr(module, "CUSTOMERS_KEPT_MAX", 1)
    ask(kept, tables, record_id(2), now=now)
    assert len(kept) == 1


def test_an_answer_that_is_too_old_leaves_whoever_is_asked_for(history: History) -> None:
    tables, kept = CountingTables(), KeptCustomers()
    fold_batch(tables, history.entries)
    now = read_clock(tables)
    ask(kept, tables, record_id(1), now=now)
    ask(kept, tables, record_id(2), now=now + timedelta(seconds=30))
    ask(kept, tables, record_id(1), now=now + timedelta(seconds=50))
    assert len(kept) == 2
    ask(kept, tables, record_id(2), now=now + timedelta(seconds=module.KEPT_SECONDS_MAX))
    assert [name for _, name, _ in kept._kept] == [record_id(2)], "used at 50, but made at 0"


async def test_an_answer_that_is_too_old_leaves_though_nobody_asks(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.01)
    tables = CountingTables()
    fold_batch(tables, history.entries)
    now = read_clock(tables)
    kept = KeptCustomers(lambda: now)
    ask(kept, tables, record_id(1), now=now)
    now += timedelta(seconds=module.KEPT_SECONDS_MAX)
    await until(lambda: len(kept) == 0)
    ask(kept, tables, record_id(1), now=now)
    now += timedelta(seconds=module.KEPT_SECONDS_MAX)
    await until(lambda: len(kept) == 0)


def test_a_parked_customer_is_never_given_from_what_is_kept(history: History) -> None:
    tables, kept = CountingTables(), KeptCustomers()
    fold_batch(tables, history.entries)
    assert ask(kept, tables, record_id(1)) is not None
    spoilt = history.traits(1, {"city": "Uji"})
    history.spoil(spoilt[-1].revision)
    fold_batch(tables, history.entries[-len(spoilt) :])
    with pytest.raises(CustomerParked):
        ask(kept, tables, record_id(1))


def test_who_is_of_a_household_is_made_anew_when_another_one_changes(history: History) -> None:
    for number in (1, 2):
        linked = HouseholdLinked(household_id=str(UUID(int=7)), source="shop")
        history.append((record_stream(record_id(number)), linked))
    until = START + timedelta(days=1)
    history.consent(1, "marketing", ConsentState.GIVEN)
    history.consent(2, "marketing", ConsentState.GIVEN, until=until)
    tables, kept = CountingTables(), KeptCustomers()
    fold_batch(tables, history.entries)

    def named(now: datetime = LONG_AGO) -> list[str]:
        ask(kept, tables, record_id(1), purpose="marketing", now=now)
        found = ask(kept, tables, record_id(1), purpose="marketing", now=now)
        assert found is not None
        return list(found.households[0].customer_ids)

    assert named() == [record_id(1), record_id(2)]
    assert named(until) == [record_id(1)]
    assert named(until - timedelta(seconds=1)) == [record_id(1), record_id(2)]
    fold_batch(tables, history.consent(2, "marketing", ConsentState.WITHDRAWN))
    assert named() == [record_id(1)]
