"""Run as a process: read a store once a line of input, and answer with what was seen."""

from __future__ import annotations

import sys
from pathlib import Path

from projections.errors import ReadSideNotReady
from projections.store import Store


def main(path: str) -> None:
    store: Store | None = None
    for _ in sys.stdin:
        try:
            store = store or Store.open_reader(Path(path))
            with store.snapshot() as snapshot:
                rows = sum(1 for _ in snapshot.scan("signals", b""))
                sys.stdout.write(f"{snapshot.checkpoint.revision} {rows}\n")
        except ReadSideNotReady as error:
            sys.stdout.write(f"{error.reason}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
