"""The log folded in shares by processes of Ray's, started for it and ended with it (R17).

`koseki verify` does so where there is more than one core and the log is long enough to be worth
starting Ray: `refolder` says. A process reads a share from a spool and nothing else but keys, gives
what it comes to, and lets go of it: what is in memory does not grow with the log.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import psutil

from app.bootstrap import begin, open_connection, open_log
from app.processes import adopt_orphans, cores, end_descendants
from app.ray_environment import RAY_ENVIRONMENT
from app.settings import Settings
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from projections.fold import memory_codec
from replay.copies_file import read_copies, write_copies
from replay.fold import Progress
from replay.scanning import SHARES_MAX
from replay.shares import Copy, Share, ShareFold, ShareFolder
from replay.sharing import Refolded, refold
from replay.spool import read_share, read_times
from replay.verify import Refold, RefoldFailed

if TYPE_CHECKING:
    from actors.remote import Asked

PROCESSES_MAX = 8
SHARE_EVENTS_MAX = 100_000
"""Of a share, about. With a thousand segments, of whose memberships most is made, an event takes
some 6 KB.
"""

WORTH_EVENTS = 50_000
"""Of a log that is shorter one process is done before others have started."""

PROGRESS_EVERY_SECONDS = 0.5
T = TypeVar("T")


def refolder(settings: Settings, log: JetStreamEventLog, *, processes: int | None) -> Refold:
    """Give the way to fold in shares, which folds nothing where one process alone is to.

    `processes` says how many; None: one for each core, if the log is worth it. A log of more than a
    share is folded in shares by one process too.
    """
    chosen = min(processes or cores(), PROCESSES_MAX)

    async def fold(revision: int, progress: Progress) -> Refolded | None:
        is_small = chosen == 1 or (processes is None and revision < WORTH_EVENTS)
        if is_small and revision <= SHARE_EVENTS_MAX:
            return None
        async with folding_processes(settings, chosen) as folding:
            return await folding.refold(log, revision, progress)

    return fold


@asynccontextmanager
async def folding_processes(
    settings: Settings, processes: int, *, share_events_max: int = SHARE_EVENTS_MAX
) -> AsyncIterator[FoldingProcesses]:
    """Start Ray, and so many processes on it; end both."""
    os.environ.update(RAY_ENVIRONMENT)
    from actors.remote import Asked, start_ray, stop_ray  # Ray is heavy

    ray_folder = tempfile.mkdtemp(prefix=f"koseki-ray-{os.getpid()}-")
    children = [child.pid for child in psutil.Process().children()]
    adopt_orphans()
    try:
        start_ray(ray_folder)  # in the main thread, or it says that it cannot hear SIGTERM
        config = settings.to_bytes()
        asked = [Asked("app.folding:build_share", config) for _ in range(processes)]
        yield FoldingProcesses(asked, share_events_max)
    finally:
        await asyncio.to_thread(stop_ray)
        end_descendants(except_for=children)
        shutil.rmtree(ray_folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class FoldingProcesses:
    """Processes that fold shares, each of so many events at most, about."""

    asked: Sequence[Asked]
    share_events_max: int = SHARE_EVENTS_MAX

    async def ready(self) -> None:
        """Wait until each has started. Raises `RefoldFailed`."""
        await self._all([one.ask("events") for one in self.asked])

    async def refold(self, log: JetStreamEventLog, revision: int, progress: Progress) -> Refolded:
        """Fold the log up to a revision. Raises `LogError`, `ReadSideError` and `RefoldFailed`."""
        with tempfile.TemporaryDirectory(prefix="koseki-fold-") as folder:
            idle: asyncio.Queue[Asked] = asyncio.Queue()
            for one in self.asked:
                idle.put_nowait(one)
            shares = max(len(self.asked), min(-(-revision // self.share_events_max), SHARES_MAX))

            def deal(dealt: bytes, revision: int) -> list[ShareFolder]:
                tasks = [_Task(folder, dealt, number, revision) for number in range(shares)]
                return [_Elsewhere(idle, task) for task in tasks]

            async def fold(folders: Sequence[ShareFolder]) -> list[Share]:
                telling = asyncio.create_task(self._tell(progress))
                try:
                    return await self._all([folder.share() for folder in folders])
                finally:
                    telling.cancel()
                    await asyncio.gather(telling, return_exceptions=True)

            return await refold(
                log,
                Path(folder),
                revision=revision,
                shares=shares,
                deal=deal,
                fold=fold,
                progress=progress,
            )

    async def _tell(self, progress: Progress) -> None:
        from actors.remote import AskFailed

        while True:
            await asyncio.sleep(PROGRESS_EVERY_SECONDS)
            with suppress(AskFailed):
                progress(sum([await one.ask("events") for one in self.asked]))

    @staticmethod
    async def _all(asked: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        from actors.remote import AskFailed

        try:
            return list(await asyncio.gather(*asked))
        except AskFailed as error:
            raise RefoldFailed(str(error)) from error


class _Task(NamedTuple):
    """Which share of what was spooled; `dealt` says by stream whose it is."""

    folder: str
    dealt: bytes
    number: int
    revision: int


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A share that is folded by the next process that has nothing to do."""

    idle: asyncio.Queue[Asked]
    task: _Task

    async def share(self) -> Share:
        asked = await self.idle.get()
        try:
            return cast(Share, await asked.ask("share", self.task))
        finally:
            self.idle.put_nowait(asked)

    async def copies_of(self, signals: Collection[int]) -> list[Copy]:
        folder, number = Path(self.task.folder), self.task.number
        return await asyncio.to_thread(read_copies, folder, number, signals)


class ShareProcess:
    """What a process that folds shares does, one after another."""

    def __init__(self, connection: Connection, log: JetStreamEventLog) -> None:
        self._connection = connection
        self._log = log
        self._fold: ShareFold | None = None
        self._folded_before = 0

    async def events(self) -> int:
        """Say how many events were folded."""
        return self._folded_before + (0 if self._fold is None else self._fold.events)

    async def share(self, task: _Task) -> Share:
        """Fold a share, and write its copies of signals. Raises `LogError` and `ReadSideError`."""
        folder, dealt, number, revision = task
        times = read_times(Path(folder))
        codec = memory_codec(self._log)
        fold = self._fold = ShareFold(codec, times, revision=revision, is_first=number == 0)
        for messages in read_share(Path(folder), dealt, number):
            await fold.add(await self._log.entries(messages))
            await asyncio.sleep(0)  # whoever asks how far it is has a turn
        share = await fold.finish()
        await asyncio.to_thread(write_copies, Path(folder), number, fold.tables)
        self._folded_before, self._fold = await self.events(), None
        return share


async def build_share(config: bytes) -> ShareProcess:
    """Build what a process of Ray's runs."""
    settings = begin(config)
    connection = await open_connection(settings, "fold", role="reader")
    return ShareProcess(connection, await open_log(connection, settings))
