"""The census of signals: what the log holds, against what was published."""

from __future__ import annotations

from typing import cast

import pytest

from domain.ids import record_stream
from domain.signal_events import SignalsDeclined
from eventlog.port import EventLog
from replay.signals import SignalCensus, count_signals, signal_figures
from tests.projections.histories import History, ListedLog, random_history, record_id, signal


async def census(history: History) -> SignalCensus:
    return await count_signals(cast("EventLog", ListedLog(history.entries)))


async def test_each_signal_is_counted_by_source_and_message_id() -> None:
    history = History()
    history.signals(1, signal("a"), signal("b"))
    history.signals(2, signal("a"))
    history.signals(1, signal("a"), source="web")
    found = await census(history)
    assert (found.distinct, found.duplicated, found.revision) == (3, 1, 3)


@pytest.mark.parametrize("seed", range(3))
async def test_figures_are_those_of_the_census(seed: int) -> None:
    history = random_history(seed, events=400, records=9)
    body = SignalsDeclined(source="shop", reason="PURPOSE_CLOSED", message_ids=("b", "c", "b"))
    history.append((record_stream(record_id(1)), body))
    counted = await census(history)
    log = cast("EventLog", ListedLog(history.entries))
    figures = await signal_figures(log, through_revision=len(history.entries))
    assert figures == {
        "signals_recorded": counted.distinct,
        "signals_duplicated": counted.duplicated,
        "signals_declined": 2,
    }
    assert counted.duplicated > 0


async def test_what_was_published_and_left_no_trace_is_lost() -> None:
    history = History()
    history.signals(1, signal("a"))
    body = SignalsDeclined(source="shop", reason="PURPOSE_CLOSED", message_ids=("b",))
    history.append((record_stream(record_id(1)), body))
    found = await census(history)
    published = [("shop", "a"), ("shop", "b"), ("shop", "c"), ("web", "a")]
    assert found.lost(published) == [("shop", "c"), ("web", "a")]


async def test_unreadable_events_are_told() -> None:
    history = History()
    history.signals(1, signal("a"))
    history.signals(1, signal("b"))
    history.spoil(1)
    found = await census(history)
    assert (found.distinct, found.unreadable_events) == (1, 1)
