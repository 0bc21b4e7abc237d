"""The projector's read side as a whole: the generation that serves, and one made anew beside it.

A rebuild folds the log from revision 1 while the old generation goes on following it. It takes over
once it has come as far as the old one had, with every erasure that the old one had read; readers in
other processes change over at their next snapshot (`store.py`). A request outlives any crash, and
what was folded is kept. An old generation that fails keeps no rebuild from its end.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from eventlog.errors import LogError
from eventlog.port import EventLog
from projections.errors import ReadSideOutdated, StoreFailed
from projections.generations import (
    clear_unserved,
    rebuilding_folder,
    request_rebuild,
    serve,
    serving_folder,
)
from projections.part_process import PartProcesses
from projections.rows import RowCodec
from projections.runner import Projector
from projections.store import Store, WritableStore
from projections.tables import Checkpoint

LOOK_EVERY_SECONDS = 0.5
"""How often it is looked for a request, and at how far a rebuild has come."""

OVERTAKE_SECONDS_MAX = 60.0
"""For the events that the old generation folded while the new one caught up with it."""

RETRY_SECONDS = 5.0
"""Until an old generation that failed beside a rebuild folds again."""

_logger = structlog.get_logger(__name__)


class _Generation:
    """One generation, open for writing, and its projector."""

    def __init__(self, log: EventLog, folder: Path, codec: RowCodec, *, processes: int) -> None:
        self.folder = folder
        self.store: WritableStore = Store.open_generation(folder, codec)
        beside = PartProcesses(self.store, folder, processes)
        self.projector = Projector(log, self.store, beside=beside)
        self.folding: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Fold until stopped."""
        if self.folding is None:
            self.folding = asyncio.create_task(self.projector.run())
        return self.folding

    def fold_beside(self) -> None:
        """Fold while another is made in its place; what fails here is tried again after a pause.

        Raises `LogError`: the other one reads the same log.
        """
        folding = self.start()
        if not folding.done():
            return
        try:
            folding.result()
        except LogError:
            raise
        except Exception as error:  # noqa: BLE001  # damaged rows may raise whatever they please
            failed = type(error).__name__
            _logger.warning("old_generation_failed", generation=self.folder.name, error=failed)
            self.folding = asyncio.create_task(self._fold_again())

    async def _fold_again(self) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        await self.projector.run()

    async def stop(self) -> Checkpoint:
        """Fold no more, and close; give the checkpoint."""
        if self.folding is not None:
            self.folding.cancel()
            await asyncio.gather(self.folding, return_exceptions=True)
        checkpoint = self.store.checkpoint
        self.store.close()
        return checkpoint


class ReadSide:
    """Keep a read side in step with its log, and make it anew when asked, or when it must be."""

    def __init__(self, log: EventLog, path: Path, codec: RowCodec, *, processes: int = 0) -> None:
        """Open it; large batches are folded with so many processes beside this one."""
        self._log = log
        self._processes = processes
        self._path = path
        self._codec = codec
        clear_unserved(path)
        self._serving: _Generation | None = None
        self._fresh: _Generation | None = None
        try:
            self._serving = self._open(serving_folder(path))
        except ReadSideOutdated:
            _logger.warning("read_side_outdated", path=path.name)
            request_rebuild(path)
        except StoreFailed:
            if rebuilding_folder(path) is None:
                raise
            _logger.warning("read_side_unreadable", path=path.name)

    @property
    def checkpoint(self) -> Checkpoint:
        """How far the rows that serve have come."""
        return Checkpoint() if self._serving is None else self._serving.projector.checkpoint

    @property
    def rebuilt_to(self) -> int | None:
        """How far the generation has come that is being made; None where none is."""
        return None if self._fresh is None else self._fresh.projector.checkpoint.revision

    async def run(self) -> None:
        """Fold until cancelled or the log ends, and swap generations. Raises as `Projector.run`."""
        try:
            while await self._fold_until_asked():
                await self._rebuild()
        finally:
            for generation in (self._serving, self._fresh):
                if generation is not None:
                    await generation.stop()

    async def _fold_until_asked(self) -> bool:
        """Fold until there is a request; false where the log ended."""
        while rebuilding_folder(self._path) is None:
            if self._serving is not None and await _ended(self._serving):
                return False
        return True

    async def _rebuild(self) -> None:
        """Make the new generation beside the old one, and let it serve."""
        folder = request_rebuild(self._path)
        fresh = self._fresh = self._open(folder)
        begun_at = fresh.projector.checkpoint.revision
        _logger.info("rebuild_begun", generation=folder.name, revision=begun_at)
        while not await self._has_caught_up(fresh):
            pass
        old, self._serving = self._serving, None
        if old is not None:
            reached = await old.stop()
            await fresh.projector.wait_for(reached.revision, timeout_seconds=OVERTAKE_SECONDS_MAX)
        serve(self._path, folder)
        self._serving, self._fresh = fresh, None
        clear_unserved(self._path)
        _logger.info("rebuild_serves", generation=folder.name, revision=self.checkpoint.revision)

    async def _has_caught_up(self, fresh: _Generation) -> bool:
        """Fold both for a moment; say whether the new one is where the old one is."""
        goal = await self._goal()
        is_ended = await _ended(fresh)
        if self._serving is not None and not is_ended:
            self._serving.fold_beside()
        return fresh.projector.checkpoint.revision >= goal

    async def _goal(self) -> int:
        if self._serving is not None:
            return self._serving.projector.checkpoint.revision
        return (await self._log.shape()).last_revision

    def _open(self, folder: Path) -> _Generation:
        return _Generation(self._log, folder, self._codec, processes=self._processes)


async def _ended(generation: _Generation) -> bool:
    """Let a generation fold for a moment; true where its log has ended. Raises what it raised."""
    folding = generation.start()
    await asyncio.wait({folding}, timeout=LOOK_EVERY_SECONDS)
    if folding.done():
        folding.result()
        return True
    return False
