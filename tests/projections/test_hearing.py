"""What a read model says that it hears is all that it folds: the rest is not given to it."""

from __future__ import annotations

from typing import cast

from projections import forgetting
from projections.fold import MODELS
from projections.memory import MemoryTables
from projections.tables import ReadTables, Tables
from tests.golden.recorded import decode, read_keys, read_messages


class OnlyRead:
    """Rows that nobody can change."""

    def __init__(self, tables: ReadTables) -> None:
        self.get, self.scan, self.scan_open = tables.get, tables.scan, tables.scan_open


def test_a_read_model_changes_nothing_by_an_event_that_it_does_not_hear() -> None:
    transaction = MemoryTables().begin()
    unheard = 0
    for entry in decode(read_messages(), read_keys()):
        assert entry.event is not None
        for model in (forgetting, *MODELS):
            is_heard = isinstance(entry.event.body, model.HEARS)
            unheard += not is_heard
            tables = transaction if is_heard else cast(Tables, OnlyRead(transaction))
            model.apply(tables, entry.event)
    assert unheard
