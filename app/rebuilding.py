"""Asks the running projector for a new read side, and follows how far it has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from app.settings import Settings
from app.status import running_settings
from projections.errors import ReadSideError
from projections.generations import rebuilding_folder, request_rebuild, serving_folder
from projections.store import Store
from projections.tables import Checkpoint

LOOK_EVERY_SECONDS = 0.5
BEGIN_SECONDS_MAX = 60.0
"""For the projector to see the request; how long the fold itself takes is the log's matter."""


async def rebuild(settings: Settings, *, progress: Callable[[int], None]) -> dict[str, Any]:
    """Rebuild each replica while it serves. Raises `NotRunning` and `TimeoutError`."""
    folders = running_settings(settings).read_side_folders
    requested = {path: request_rebuild(path) for path in folders}
    begun = monotonic()
    told = {path.name: await _follow(settings, path, requested[path], progress) for path in folders}
    return {**told, "seconds": round(monotonic() - begun, 1)}


async def _follow(
    settings: Settings, path: Path, folder: Path, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Follow the rebuild of one replica until it serves."""
    begun = monotonic()
    while rebuilding_folder(path) == folder:
        reached = _checkpoint(folder)
        if reached is None and monotonic() - begun > BEGIN_SECONDS_MAX:
            raise TimeoutError("no projector has begun the rebuild")
        progress(0 if reached is None else reached.revision)
        running_settings(settings)
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    served = _checkpoint(folder) or Checkpoint()
    return {
        "generation": serving_folder(path).name,
        "revision": served.revision,
        "rows_digest": served.rows_digest.hex(),
    }


def _checkpoint(folder: Path) -> Checkpoint | None:
    with suppress(ReadSideError):
        store = Store.open_reader(folder)
        try:
            return store.checkpoint
        finally:
            store.close()
    return None
