"""An erased customer is one row, and a fold with the keys equals one without (R14, R17)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.erasure_events import ErasureRequested
from domain.identity_events import IdentifiersLinked
from domain.ids import record_stream
from domain.signal_events import TraitsSet
from eventlog.port import Entry
from projections.counts import read_counts
from projections.customers import CUSTOMERS, parted_from
from projections.erasures import pending
from projections.errors import CustomerErased
from projections.fold import TABLES, fold_batch
from projections.heads import HEADS
from projections.memory import MemoryTables
from projections.segments.active import EVERYONE
from projections.segments.bitmaps import number_of, read_bitmap
from projections.segments.journal import (
    MembershipChange,
    Position,
    behind,
    everything_after,
)
from projections.store import Store
from projections.views import customer_of, record_holding
from tests.projections.erasing import Erasing, erasing_history
from tests.projections.histories import batches, identifier, record_id

OF_IDS_ALONE = {CUSTOMERS, HEADS, "erasures", "erasures_pending", "identifiers"}


def folded(entries: Sequence[Entry], sizes: random.Random) -> MemoryTables:
    tables = MemoryTables()
    waiting = list(entries)
    while waiting:
        batch = next(iter(batches(waiting, sizes.choice((1, 5, 60)))))
        fold_batch(tables, batch)
        waiting = waiting[len(batch) :]
    return tables


def rows(tables: MemoryTables) -> dict[tuple[str, bytes], object]:
    return {(table, key): row for table in TABLES for key, row in tables.scan(table, b"")}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1_000_000))
def test_with_the_keys_and_without_them_the_rows_are_the_same(seed: int) -> None:
    history = erasing_history(seed, steps=90, people=7)
    last = max(
        (e.revision for e in history.events if isinstance(e.body, ErasureRequested)), default=0
    )
    live = folded(history.entries, random.Random(seed))
    replayed = folded(history.after_destruction(), random.Random(seed + 1))
    # Keys went while it was folding: some of the entries were read with them, the rest without.
    cut = next(e.revision for e in history.entries if e.revision >= last // 2 and e.ends_append)
    mixed = folded(
        [*history.entries[:cut], *history.after_destruction()[cut:]], random.Random(seed + 2)
    )
    assert rows(live) == rows(replayed)
    assert rows(mixed) == rows(replayed)
    assert live.checkpoint == replayed.checkpoint == mixed.checkpoint


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1_000_000))
def test_what_is_told_of_others_stands_at_the_same_place_with_the_keys_and_without(
    seed: int,
) -> None:
    history = erasing_history(seed, steps=90, people=7)
    live = folded(history.entries, random.Random(seed))
    replayed = folded(history.after_destruction(), random.Random(seed + 1))

    def told(tables: MemoryTables) -> dict[tuple[object, ...], Position]:
        """Who was once one with somebody erased is not told of what they had in common."""
        kept = [c for c in everything_after(tables, behind(0)) if _names(c[1]).isdisjoint(ever)]
        return {(position.revision, change): position for position, change in kept}

    ever = history.erased | {r for other in history.erased for r in parted_from(live, [other])}
    assert told(live) == told(replayed)


def _names(change: MembershipChange) -> set[str]:
    return {change.customer, change.moved_from or change.customer}


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1_000_000))
def test_of_an_erased_record_nothing_is_left_but_ids(seed: int) -> None:
    history = erasing_history(seed, steps=60, people=5)
    tables = folded(history.entries, random.Random(seed))
    for (table, key), row in rows(tables).items():
        if table not in OF_IDS_ALONE:
            for record in history.erased:
                assert record not in key.decode(errors="replace"), (table, key)
                assert record not in repr(row), (table, key)


def one_erased() -> Erasing:
    history = Erasing()
    history.rules()
    history.segment("golden", 'traits.tier == "gold"')
    history.hold(1, "a@example.com")
    history.set(1, tier="gold")
    history.set(2, tier="gold")
    history.merge(1, 2)
    history.set(3, tier="gold")
    history.erase(2)
    return history


def test_who_reads_an_erased_customer_is_told_so_by_every_id_and_identifier() -> None:
    tables = folded(one_erased().entries, random.Random(1))
    for number in (1, 2):
        with pytest.raises(CustomerErased):
            customer_of(tables, record_id(number))
    with pytest.raises(CustomerErased):
        record_holding(tables, identifier("a@example.com").key)
    assert customer_of(tables, record_id(3)) == record_id(3)
    counts = read_counts(tables)
    assert (counts.customers, counts.records, counts.merges) == (1, 1, 0)


def test_the_erased_leave_every_segment_and_the_journal_tells_ids_only() -> None:
    history = one_erased()
    tables = folded(history.entries, random.Random(1))
    last = history.entries[-1].revision
    told = [change for _, change in everything_after(tables, behind(0))]
    of_erased = [c for c in told if record_id(1) in (c.customer, c.moved_from)]
    assert {(c.segment, c.change, c.cause, c.revision) for c in of_erased} >= {
        (EVERYONE, "exited", "erased", last),
        ("golden", "exited", "erased", last),
    }
    assert all(c.revision == last for c in of_erased)
    number = number_of(tables, record_id(1))
    assert number is not None
    assert number not in read_bitmap(tables, "golden")
    assert number not in read_bitmap(tables, EVERYONE)


def test_a_customer_that_waits_is_erased_too_and_waits_no_more() -> None:
    history = Erasing()
    history.rules()
    history.hold(1, "a@example.com")
    history.append((record_stream(record_id(1)), TraitsSet(source="shop", traits={"n": 2**70})))
    history.hold(1, "b@example.com")
    history.merge(1, 2)
    history.erase(1)
    live = folded(history.entries, random.Random(1))
    replayed = folded(history.after_destruction(), random.Random(1))
    assert rows(live) == rows(replayed)


def test_an_erasure_waits_until_there_is_a_receipt(tmp_path: Path) -> None:
    store = Store.open_writer(tmp_path)
    history = one_erased()
    fold_batch(store, history.entries)
    with store.snapshot() as tables:
        [waiting] = pending(tables)
    assert waiting.root == record_id(1)
    assert waiting.records == (record_id(1), record_id(2))
    assert waiting.identifiers == 1
    store.close()


def test_a_later_link_of_what_was_readmitted_counts_again() -> None:
    history = one_erased()
    item = identifier("a@example.com")
    history.append(
        (
            record_stream(record_id(9)),
            IdentifiersLinked(source="shop", keys=(item.key,), identifiers=(item,)),
        )
    )
    tables = folded(history.entries, random.Random(1))
    assert record_holding(tables, item.key) == record_id(9)
