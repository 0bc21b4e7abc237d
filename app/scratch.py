"""Where a whole log is folded to that is looked at row by row: memory, or a folder for a long one.

The folder is a read side of its own, sealed as any, in the folder for temporary files; it is gone
when that was looked at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.port import LogReader
from projections.fold import row_codec
from projections.store import Store
from replay.fold import Scratch, in_memory

IN_MEMORY_EVENTS_MAX = 100_000
"""One to ten kilobytes each, by how many segments there are."""


@contextmanager
def scratch_for(log: LogReader, revision: int) -> Iterator[Scratch]:
    """Give scratch for the fold of a log up to a revision. Raises `ReadSideError` and `OSError`."""
    if revision <= IN_MEMORY_EVENTS_MAX:
        with in_memory(log, revision) as scratch:
            yield scratch
        return
    with tempfile.TemporaryDirectory(prefix="koseki-replay-") as folder:
        store = Store.open_generation(Path(folder), row_codec(log))
        try:
            yield store
        finally:
            store.close()
