"""Where rows lie on disk is seen by nobody: tables in a common database are as tables apart."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.clusters import CLUSTERED
from projections.memory import MemoryTables
from projections.segments.timers import TIMERS
from projections.store import Store, WritableStore
from projections.tables import ReadTables

TABLES = (*CLUSTERED, TIMERS)
RECORDS = [str(UUID(int=number << 100)).encode() for number in range(1, 5)]
RESTS = (b"", b"/", b"/a", b"/a/b", b"/b")
KEYS = [record + rest for record, rest in product(RECORDS, RESTS)]
CHANGES = st.lists(
    st.tuples(st.sampled_from(TABLES), st.sampled_from(KEYS), st.booleans()), max_size=60
)
PREFIXES = (b"", RECORDS[1][:4], RECORDS[1], RECORDS[1] + b"/", RECORDS[2] + b"/a", b"zzz")


def change(rows: WritableStore | MemoryTables, changes: list[tuple[str, bytes, bool]]) -> None:
    transaction = rows.begin()
    for number, (table, key, is_kept) in enumerate(changes):
        if is_kept:
            transaction.put(table, key, {"number": number})
        else:
            transaction.delete(table, key)
    transaction.commit(revision=0, event_digest=bytes(32), log_digest=bytes(32))


def seen(tables: ReadTables) -> list[list[tuple[bytes, object]]]:
    return [
        list(tables.scan(table, prefix, start=start))
        for table, prefix in product(TABLES, PREFIXES)
        for start in (b"", *(key for key in KEYS if key.startswith(prefix)))
    ]


@settings(deadline=None, max_examples=10)
@given(CHANGES, CHANGES)
def test_every_scan_and_row_is_that_of_tables_apart(
    first: list[tuple[str, bytes, bool]], second: list[tuple[str, bytes, bool]]
) -> None:
    memory = MemoryTables()
    with TemporaryDirectory() as folder:
        store = Store.open_writer(Path(folder))
        for changes in (first, second):
            change(store, changes)
            change(memory, changes)
        with store.snapshot() as stored:
            assert seen(stored) == seen(memory)
            for table in TABLES:
                assert stored.load_many(table, KEYS) == memory.load_many(table, KEYS)
                assert [stored.get(table, k) for k in KEYS] == [memory.get(table, k) for k in KEYS]
        assert store.checkpoint == memory.checkpoint
        store.close()
