"""Of the part `query`: how fast `koseki verify` proves a read side, in processes of Ray's.

The log lies on a real server, the read side in LMDB, sealed. The raw limit fetches the very same
messages once, without decoding them. Ray and its processes stand before the first round: how long
they take to start does not grow with the log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from app.folding import SHARE_EVENTS_MAX, FoldingProcesses, folding_processes
from app.settings import Settings
from benchmarks.happenings import Happenings
from benchmarks.measuring import Metric, Metrics, Rounds, alternate, rate_of
from benchmarks.projection import projected, store_entries
from benchmarks.raw import fetch_all
from benchmarks.scene import WORKSPACE, Scene, log_scene
from eventlog.subjects import Subjects
from projections.store import Store
from replay.fold import Progress
from replay.sharing import Refolded
from replay.verify import verify

SCAN_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    rounds: Rounds = Rounds(3, seconds_max=180.0)  # noqa: RUF009  # frozen
    events: int = 100_000
    customers: int = 20_000
    segments: int = 10
    processes: int = max(2, os.cpu_count() or 1)
    share_events_max: int = SHARE_EVENTS_MAX


QUICK = Load(rounds=Rounds(3, seconds_max=30.0), events=25_000, customers=5_000)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(load: Load) -> Metrics:
    """Measure with a load of one's own; beside it stands one process alone."""
    happenings = Happenings()
    happenings.rules()
    happenings.segments(load.segments)
    happenings.signals(load.events, customers=load.customers)
    events = len(happenings.entries)
    with TemporaryDirectory(prefix="koseki-verify-") as folder:
        async with log_scene(Path(folder) / "workspace-key") as scene:
            await store_entries(scene.log, happenings.entries)
            async with (
                projected(scene, events, Path(folder) / "read-side") as store,
                folding_processes(
                    _settings(scene, folder),
                    load.processes,
                    share_events_max=load.share_events_max,
                ) as processes,
            ):
                await processes.ready()
                found = await _measured(scene, store, processes, load=load, events=events)
    beside = {"processes": load.processes, "in_one_process": found["alone"]}
    metric = Metric(found["ours"], "events/s", found["raw"], ratio_at_least=0.3, beside=beside)
    return {"verify_events_per_second": metric}


async def _measured(
    scene: Scene, store: Store, processes: FoldingProcesses, *, load: Load, events: int
) -> dict[str, float]:
    log_name = Subjects(WORKSPACE).log_name

    async def refold(revision: int, progress: Progress) -> Refolded:
        return await processes.refold(scene.log, revision, progress)

    async def prove(*, in_shares: bool) -> None:
        with store.snapshot() as rows:
            found = await verify(scene.log, rows, refold=refold if in_shares else None)
        if not found.holds or found.checkpoint.revision != events:
            raise RuntimeError(f"the read side is not proved: {found.faults}")

    async def ours() -> list[float]:
        return await rate_of(events, prove(in_shares=True))

    async def alone() -> list[float]:
        return await rate_of(events, prove(in_shares=False))

    async def raw() -> list[float]:
        fetching = fetch_all(scene.client, log_name, messages=events, size=SCAN_BATCH)
        return await rate_of(events, fetching)

    return await alternate(load.rounds, ours=ours, raw=raw, alone=alone)


def _settings(scene: Scene, folder: str) -> Settings:
    """Say to other processes where the log is."""
    return Settings(
        data=Path(folder),
        workspace=WORKSPACE,
        nats_url=scene.server.url,
        nats_server_name=scene.server.name,
        workspace_key=f"file:{Path(folder) / 'workspace-key'}",
    )
