"""Run as a process: a read side over a random history, rebuilt when asked. Tests kill it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from projections.generations import rebuilding_folder
from projections.read_side import ReadSide
from projections.rows import OpenRows
from tests.projections.growing import GrowingLog
from tests.projections.histories import random_history

SAY_EVERY_SECONDS = 0.01


async def main(path: Path, seed: int, events: int) -> None:
    """Fold until a rebuild that was asked for serves; say meanwhile how far it is."""
    log = GrowingLog(random_history(seed, events=events, records=60).entries)
    read_side = ReadSide(log.log, path, OpenRows())
    running = asyncio.create_task(read_side.run())
    while rebuilding_folder(path) is not None:
        sys.stdout.write(f"{read_side.rebuilt_to or 0}\n")
        sys.stdout.flush()
        await asyncio.wait({running}, timeout=SAY_EVERY_SECONDS)
        if running.done():
            running.result()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
