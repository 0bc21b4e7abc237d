"""Run as a process: fold a random history into a store, and tell of each commit. Tests kill it."""

from __future__ import annotations

import sys
from pathlib import Path

from projections.fold import fold_batch
from projections.store import Store
from tests.projections.histories import batches, random_history


def main(path: str, seed: str, events: str, batch_events: str) -> None:
    entries = random_history(int(seed), events=int(events), records=60).entries
    store = Store.open_writer(Path(path))
    left = entries[store.checkpoint.revision :]
    for batch in batches(left, int(batch_events)):
        sys.stdout.write(f"{fold_batch(store, batch).revision}\n")
        sys.stdout.flush()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
