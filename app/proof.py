"""What `koseki verify` does: replay the log from NATS alone, and compare it with the read side."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.bootstrap import open_connection, open_log
from app.settings import Settings
from app.status import running_settings
from projections.fold import row_codec
from projections.store import Store
from replay.fold import Progress
from replay.signals import count_signals
from replay.verify import verify


async def prove(settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Verify the read side. Raises `NotRunning`, `LogError` or `ReadSideError`."""
    settings = running_settings(settings)
    connection = await open_connection(settings, "verify", role="reader")
    log = await open_log(connection, settings)
    store = Store.open_reader(settings.read_side_folder, row_codec(log))
    try:
        with store.snapshot() as tables:
            found = await verify(log, tables, progress=progress)
        census = await count_signals(log, through_revision=found.checkpoint.revision)
        return {
            "holds": found.holds,
            "revision": found.checkpoint.revision,
            "log_digest": found.checkpoint.log_digest.hex(),
            "rows_digest": found.checkpoint.rows_digest.hex(),
            "rows_compared": found.rows_compared,
            "divergences": found.divergences + len(found.faults),
            "faults": found.faults,
            "log_fault": found.log_fault,
            "parked": [asdict(parked) for parked in found.parked],
            "first_divergence": asdict(found.first) if found.first else None,
            "signals_recorded": census.distinct,
            "signals_duplicated": census.duplicated,
            "signals_declined": len(census.declined),
        }
    finally:
        store.close()
        await log.close()
        await connection.close()
