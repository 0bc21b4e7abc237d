"""Where a read of the log ends: at a revision, or where its clock passes a time (R15).

Every implementation of the log cuts through this module.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from eventlog.port import Entry


async def prefix(
    batches: AsyncGenerator[list[Entry], None],
    *,
    through_revision: int | None,
    as_of: datetime | None,
) -> AsyncGenerator[list[Entry], None]:
    """Yield what of these batches lies within both bounds; None bounds nothing."""
    async with aclosing(batches):
        async for entries in batches:
            within = _within(entries, through_revision, as_of)
            if within:
                yield within
            if len(within) < len(entries) or entries[-1].revision == through_revision:
                return


def _within(
    entries: list[Entry], through_revision: int | None, as_of: datetime | None
) -> list[Entry]:
    """Cut before the first entry that is out of bounds.

    The log's clock is the greatest recorded time so far, so it passes a time at the first event
    that was recorded later, and never comes back.
    """
    for index, entry in enumerate(entries):
        is_later = through_revision is not None and entry.revision > through_revision
        is_newer = as_of is not None and entry.recorded_at is not None and entry.recorded_at > as_of
        if is_later or is_newer:
            return entries[:index]
    return entries
