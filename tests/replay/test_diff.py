"""What changed between two past states is the difference of the two, and each step is named."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import Invalid
from eventlog.port import LogReader
from projections.fold import fold_batch
from projections.memory import MemoryTables
from replay.as_of import AsOf, find_prefix
from replay.customer import PastCustomers
from replay.diff import diff_customer, fields_of
from tests.projections.histories import ListedLog, record_id
from tests.projections.segments.happenings import Happenings
from tests.projections.segments.test_segments_against_oracle import RECORDS, SEEDS, world_of
from tests.replay.test_as_of import LATER, listed

REPLAY = Path(__file__).parents[2] / "replay"


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(0, 2**32), st.integers(0, 2**32))
async def test_changes_are_what_differs_between_the_whole_logs(seed: int, a: int, b: int) -> None:
    entries = world_of(seed).history.entries
    ends = [entry.revision for entry in entries if entry.ends_append]
    first, last = sorted((ends[a % len(ends)], ends[b % len(ends)]))
    record = record_id(a % RECORDS)
    earlier, later = [
        await find_prefix(listed(entries), AsOf(revision=revision), now=LATER)
        for revision in (first, last)
    ]
    wanted = []
    for prefix in (earlier, later):
        tables = MemoryTables()
        fold_batch(tables, entries[: prefix.revision])
        wanted.append(fields_of(PastCustomers(tables, prefix, (), frozenset()), record))
    before, after = wanted
    found = await diff_customer(listed(entries), record, earlier=earlier, later=later)
    differing = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert {change.name for change in found if change.before != change.after} == differing
    for change in found:
        assert (change.before, change.after) == (before.get(change.name), after.get(change.name))
        assert change.steps[-1].value == change.after
        assert all(first <= step.revision <= last for step in change.steps)


async def test_a_window_that_closed_is_told_as_time_and_an_order_as_its_event() -> None:
    history = Happenings()
    history.rules()
    history.segment("buyers", 'count("Order", "1h") >= 1')
    history.set(1, tier="silver")
    start = len(history.entries)
    history.did(1, "Order")
    ordered = len(history.entries)
    history.advance(10_000)
    log = cast("LogReader", ListedLog(history.entries))
    earlier = await find_prefix(log, AsOf(revision=start), now=LATER)
    later = await find_prefix(log, AsOf(), now=LATER)
    changes = await diff_customer(log, record_id(1), earlier=earlier, later=later)
    (buyers,) = [change for change in changes if change.name == "segments.buyers"]
    assert (buyers.before, buyers.after) == (None, None)
    entered, left = buyers.steps
    assert (entered.revision, entered.value, len(entered.events)) == (ordered, True, 1)
    assert (left.value, left.events) == (None, ())


async def test_states_in_the_wrong_order_are_refused() -> None:
    history = Happenings()
    history.rules()
    log = listed(history.entries)
    earlier, later = [await find_prefix(log, AsOf(revision=r), now=LATER) for r in (3, 2)]
    with pytest.raises(Invalid):
        await diff_customer(log, record_id(1), earlier=earlier, later=later)


def test_replays_are_handed_no_way_to_write() -> None:
    assert not {"append", "guard_by", "publish"} & set(dir(LogReader))
    for path in REPLAY.glob("*.py"):
        source = path.read_text()
        assert "EventLog" not in source.replace("JetStreamEventLog", ""), path.name
        assert ".append(attempt" not in source, path.name
