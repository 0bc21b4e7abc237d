"""What `koseki export` does: what a purpose may see of everybody, as of now or a past state."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.bootstrap import open_log
from app.reaching import reached
from app.replaying import past_of, read_moment
from app.scratch import scratch_for
from app.settings import Settings
from projections.fold import let_time_pass, row_codec
from projections.row_keys import in_thread
from projections.store import Store
from replay.export import Export
from replay.fold import Progress, fold_into, silent
from replay.parquet import ParquetExport


async def export_tables(
    settings: Settings,
    folder: Path,
    *,
    purpose: str,
    as_of: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write Parquet files of what a purpose may see; give their figures and the rate.

    From the read side as it stands; as of a past state, from the log, folded for it.
    Raises `NotFound`, `Invalid`, `ExportExists`, `ReadSideError`, and as `past_of`.
    """
    opening = _standing(settings, purpose) if as_of is None else _past(settings, purpose, as_of)
    async with opening as export:
        at = export.tables.checkpoint
        about = {
            "koseki.workspace": settings.workspace,
            "koseki.purpose": purpose,
            "koseki.revision": str(at.revision),
            "koseki.log_digest": at.log_digest.hex(),
        }
        begun, customers = time.monotonic(), 0
        with ParquetExport(folder, about=about) as files:
            async for batch in export.batches():
                files.add(batch.rows)
                customers += batch.customers
                progress(customers)
        seconds = time.monotonic() - begun
    return {
        "folder": str(folder),
        "purpose": purpose,
        "revision": at.revision,
        "customers": customers,
        "left_out": asdict(export.left_out),
        "rows": files.rows,
        "seconds": round(seconds, 3),
        "customers_per_second": round(customers / seconds) if seconds else 0,
    }


@asynccontextmanager
async def _standing(settings: Settings, purpose: str) -> AsyncIterator[Export]:
    """Read one snapshot of the read side; its file grows until the export is done."""
    async with reached(settings, role="reader") as (found, connection):
        log = await open_log(connection, found)
        codec = row_codec(log)
        try:
            store = Store.open_reader(found.read_side_folder, codec)
            try:
                now = None if found.clock.startswith("manual") else datetime.now(UTC)
                with store.snapshot() as tables:
                    yield Export(tables, codec, purpose, log, now=now)
            finally:
                store.close()
        finally:
            await log.close()


@asynccontextmanager
async def _past(settings: Settings, purpose: str, as_of: str) -> AsyncIterator[Export]:
    async with past_of(settings) as past:
        prefix = await past.prefix(read_moment(as_of))
        with scratch_for(past.log, prefix.revision) as rows:
            await fold_into(past.log, rows, through_revision=prefix.revision)
            await in_thread(partial(let_time_pass, rows, prefix.clock), rows.codec)
            with rows.snapshot() as tables:
                yield Export(tables, rows.codec, purpose, past.log)
