"""Run as a process: take every place among a store's readers, say how many, and wait."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from projections.errors import StoreFailed
from projections.store import Store


def main(path: str) -> None:
    store = Store.open_reader(Path(path))
    with ExitStack() as held:
        for taken in count():
            try:
                held.enter_context(store.snapshot())
            except StoreFailed:
                sys.stdout.write(f"{taken}\n")
                sys.stdout.flush()
                break
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
