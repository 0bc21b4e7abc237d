"""More customers than a process holds keys for: whoever judges everybody does so in slices.

The limits are lowered instead of the customers being many. Rows are sealed, and the projector is
the real one, over its real store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest

from domain.consent import ConsentState, LawfulBasis
from domain.ids import RecordId
from domain.workspace_events import PurposeDefined
from eventlog.errors import LogUnavailable
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.keys.port import KeyAnswer
from eventlog.port import EventLog
from projections.fold import fold_batch, row_codec
from projections.memory import MemoryTables
from projections.parking import parked
from projections.row_keys import read_long
from projections.runner import Projector
from projections.segments.explaining import preview_counts
from projections.segments.journal import changes
from projections.segments.membership import MEMBERSHIPS
from projections.store import Store
from replay.verify import verify
from tests.projections.histories import ListedLog, record_id
from tests.projections.segments.happenings import Happenings

CUSTOMERS = 120
KEYS_HELD = 8
SLICE = 7
BATCH_EVENTS = 40
NL_CUSTOMERS = 36
WAIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.row_keys.PINNED_MAX", KEYS_HELD)
    monkeypatch.setattr("projections.segments.slices.RECORDS_AHEAD_MAX", SLICE)
    monkeypatch.setattr("projections.segments.session.RECORDS_AHEAD_MAX", SLICE)
    monkeypatch.setattr("projections.segments.filling.SLICE_CUSTOMERS_MAX", SLICE)
    monkeypatch.setattr("projections.runner.READ_EVENTS_MAX", BATCH_EVENTS // 2)
    monkeypatch.setattr("projections.backlog.BATCH_EVENTS_MAX", BATCH_EVENTS)
    monkeypatch.setattr("replay.verify.ROWS_AT_ONCE_MAX", BATCH_EVENTS)


class Populated(Happenings):
    """Everybody has traits, a signal, and a consent that runs out; some are merged."""

    def __init__(self) -> None:
        super().__init__()
        self.rules()
        for number in range(CUSTOMERS):
            self.now += 1
            self.set(number, country="JP" if number % 3 else "NL")
            self.did(number, "Order Completed", amount=number)
            self.say(number, "marketing", ConsentState.GIVEN, until=100_000)
        for number in range(0, 20, 2):
            self.merge(number, number + 1)


def rebuilt_late(history: Populated) -> None:
    """Definitions that take effect in the batch in which they are made: nothing was back-filled."""
    history.segment("japan", 'traits.country == "JP"')
    history.segment("fresh", 'seen("Order Completed", "5m")')
    history.segment("both", 'segment("japan") && segment("fresh")')
    history.segment("japan", 'traits.country == "NL"')
    history.archive("both")


def a_new_purpose(history: Populated) -> None:
    history.segment("open", 'consent("marketing")')
    history.tell(PurposeDefined(purpose="loyalty", basis=LawfulBasis.LEGITIMATE_INTEREST))
    history.source("shop", "analytics", "loyalty", "marketing", priority=7)


def everybody_is_due(history: Populated) -> None:
    history.segment("fresh", 'seen("Order Completed", "5m")')
    history.segment("stale", '!segment("fresh") && traits.country == "JP"')
    history.advance(10_000_000)


class Counted(MemoryKeyStore):
    """Keys of everybody, and how many were asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    async def load(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        wanted = list(record_ids)
        self.largest = max(self.largest, len(wanted))
        return await super().load(wanted)


class SealedLog(ListedLog):
    """A log whose keys are a ring's that has room for few."""

    def __init__(self, history: Happenings, ring: KeyRing) -> None:
        super().__init__(history.entries)
        self.keys = ring  # type: ignore[assignment]  # of a plain list it has none


@pytest.fixture
async def store() -> Counted:
    made = Counted()
    await made.ensure(record_id(number) for number in range(CUSTOMERS))
    return made


@pytest.fixture
async def ring(store: Counted) -> AsyncIterator[KeyRing]:
    made = KeyRing(store, keys_max=KEYS_HELD)
    yield made
    await made.close()


@pytest.mark.parametrize("happens", [rebuilt_late, a_new_purpose, everybody_is_due])
async def test_everybody_is_judged_with_few_keys_at_a_time(
    tmp_path: Path, store: Counted, ring: KeyRing, happens: Callable[[Populated], None]
) -> None:
    history = Populated()
    happens(history)
    plain = MemoryTables()
    fold_batch(plain, history.entries)
    log = cast("EventLog", SealedLog(history, ring))
    read_side = Store.open_writer(tmp_path / "read", row_codec(log))
    await Projector(log, read_side).run()
    with read_side.snapshot() as tables:
        assert list(tables.scan(MEMBERSHIPS, b"")) == list(plain.scan(MEMBERSHIPS, b""))
        assert list(changes(tables)) == list(changes(plain))
        assert (await verify(log, tables, batch_events_max=BATCH_EVENTS)).holds
        told = len(list(changes(tables)))
    read_side.close()
    assert told >= CUSTOMERS - 10
    assert store.largest <= BATCH_EVENTS + SLICE


async def test_a_preview_looks_at_everybody_with_few_keys_at_a_time(
    tmp_path: Path, store: Counted, ring: KeyRing
) -> None:
    log = cast("EventLog", SealedLog(Populated(), ring))
    read_side = Store.open_writer(tmp_path / "read", row_codec(log))
    await Projector(log, read_side).run()
    counted = await read_long(
        read_side,
        lambda tables: preview_counts(tables, 'traits.country == "NL"', purposes=["analytics"]),
    )
    read_side.close()
    assert counted == {"analytics": NL_CUSTOMERS}
    assert store.largest <= BATCH_EVENTS + SLICE


async def test_keys_that_cannot_be_had_stop_the_projector_and_park_nobody(
    tmp_path: Path, store: Counted, ring: KeyRing
) -> None:
    history = Populated()
    rebuilt_late(history)
    log = cast("EventLog", SealedLog(history, ring))
    read_side = Store.open_writer(tmp_path / "read", row_codec(log))
    store.is_available = False
    with pytest.raises(LogUnavailable):
        await Projector(log, read_side).run()
    store.is_available = True
    await Projector(log, read_side).run()
    with read_side.snapshot() as tables:
        assert (await verify(log, tables, batch_events_max=BATCH_EVENTS)).holds
        assert not list(parked(tables))
    read_side.close()


async def test_a_projector_that_is_stopped_while_it_waits_for_keys_ends(
    tmp_path: Path, store: Counted, ring: KeyRing
) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def load(_: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        asked.set()
        await never.wait()
        raise AssertionError

    store.load = load  # type: ignore[assignment, method-assign]  # a store that does not answer
    silent = KeyRing(store, keys_max=KEYS_HELD)
    log = cast("EventLog", SealedLog(Populated(), silent))
    read_side = Store.open_writer(tmp_path / "read", row_codec(log))
    running = asyncio.create_task(Projector(log, read_side).run())
    async with asyncio.timeout(WAIT_SECONDS):
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert read_side.checkpoint.revision == 0
    read_side.close()
    never.set()
    await silent.close()
