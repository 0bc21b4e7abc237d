"""What `koseki verify` does: replay the log from NATS alone, and compare it with the read side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.bootstrap import open_connection, open_log, trait_index_key
from app.folding import refolder
from app.integrity import known_witnesses
from app.scratch import scratch_for
from app.settings import Settings
from app.status import running_settings
from eventlog.errors import LogDamaged
from eventlog.port import EventLog
from eventlog.replicas_read import ReplicaRead
from projections.fold import row_codec
from projections.store import Store
from projections.tables import ReadTables
from replay.damage import Damage
from replay.fold import Progress
from replay.signals import signal_figures
from replay.verify import Refold, Verification, verify


async def prove(
    settings: Settings, *, progress: Progress, processes: int | None = None
) -> dict[str, Any]:
    """Verify each replica of the read side here, in so many processes; None: as many as it takes.

    Tells of the last replica that was looked at, which is the first that does not hold, if there is
    one. Raises `NotRunning`, `LogError` or `ReadSideError`.
    """
    settings = running_settings(settings)
    proved: list[str] = []
    found: dict[str, Any] = {}
    for folder in settings.read_side_folders:
        found = await _proved(settings, folder, progress=progress, processes=processes)
        proved.append(folder.name)
        if not found["holds"]:
            break
    return {**found, "read_sides": proved}


async def _proved(
    settings: Settings, folder: Path, *, progress: Progress, processes: int | None
) -> dict[str, Any]:
    connection = await open_connection(settings, "verify", role="reader")
    log = await open_log(connection, settings)
    store = Store.open_reader(folder, row_codec(log, index_key=trait_index_key(settings)))
    try:
        with store.snapshot() as tables:
            begun = time.monotonic()
            refold = refolder(settings, log, processes=processes)
            found = await _verified(settings, log, tables, progress=progress, refold=refold)
            seconds = time.monotonic() - begun
        replicas = await log.replicas_read()
        return {
            "holds": found.holds,
            **replica_figures(replicas),
            "revision": found.checkpoint.revision,
            "log_digest": found.checkpoint.log_digest.hex(),
            "rows_digest": found.checkpoint.rows_digest.hex(),
            "rows_compared": found.rows_compared,
            "sets_compared": found.sets_compared,
            "folded_in_shares": found.is_folded_in_shares,
            "seconds": round(seconds, 3),
            "events_per_second": round(found.checkpoint.revision / seconds) if seconds else 0,
            "divergences": found.divergences + len(found.faults),
            "faults": found.faults,
            "log_fault": found.log_fault,
            "parked": [asdict(parked) for parked in found.parked],
            "first_divergence": asdict(found.first) if found.first else None,
            **damage_figures(found.damage),
            **await _signals(log, found),
        }
    finally:
        store.close()
        await log.close()
        await connection.close()


async def _verified(
    settings: Settings,
    log: EventLog,
    tables: ReadTables,
    *,
    progress: Progress,
    refold: Refold | None,
) -> Verification:
    """Verify with all that is known beside the log; what of it cannot be read is a fault too."""
    try:
        witnesses = known_witnesses(settings, tables.checkpoint)
    except LogDamaged as damaged:
        found = await verify(log, tables, progress=progress, refold=refold, scratch=scratch_for)
        found.faults.append("witnesses_unreadable")
        found.log_fault = found.log_fault or damaged.message
        return found
    return await verify(
        log,
        tables,
        witnesses=witnesses,
        progress=progress,
        refold=refold,
        scratch=scratch_for,
    )


async def _signals(log: EventLog, found: Verification) -> dict[str, int]:
    """Count the signals of a log that could be read."""
    if found.replayed is None:
        return {}
    return await signal_figures(log, through_revision=found.checkpoint.revision)


def replica_figures(replicas: Sequence[ReplicaRead]) -> dict[str, Any]:
    """Say which servers were read, the last of them first, and what each did not give."""
    return {
        "server": replicas[-1].server,
        "server_role": replicas[-1].role,
        "replicas": [
            {
                "server": replica.server,
                "role": replica.role,
                "lacks": [_range(first, last) for first, last in replica.lacking],
            }
            for replica in replicas
        ],
    }


def damage_figures(damage: Damage | None) -> dict[str, Any]:
    """Say what of the log is lost, and which records are touched."""
    damage = damage or Damage()
    return {
        "lost_events": damage.lost_events,
        "lost_revisions": [_range(first, last) for first, last in damage.lost],
        "replaced_events": damage.replaced_events,
        "replaced_revisions": damage.replaced,
        "records_touched": damage.records_touched,
        "records": [
            {
                "record_id": record.record_id,
                "revision_expected": record.expected.revision,
                "version_expected": record.expected.version,
                "revision_found": record.found.revision,
                "version_found": record.found.version,
            }
            for record in damage.records
        ],
    }


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
