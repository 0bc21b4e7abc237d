"""Where a read side first left the log: which record's row, by which event, in which fields (R17).

Rows differ in the order of their keys; what an auditor asks is since when. So the customers of the
first rows that differ are folded once more, decision by decision, from their own streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from domain.ids import RecordId
from eventlog.port import LogReader
from projections.clock import BEGINNING
from projections.fold import fold_excerpt
from projections.memory import MemoryTables
from projections.rows import Row
from replay.as_of import Prefix, within
from replay.customer import load_customers
from replay.diff import decisions_of

RECORDS_MAX = 50
"""Records whose rows differ that are folded once more."""

EVENTS_MAX = 10_000
"""Of one customer; of one with more, its last event stands for the one that is looked for."""

Difference = Literal["missing", "unexpected", "different"]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OWNER_LAST = frozenset({"timers", "household_members"})
"""Tables whose keys end with the record; those of others begin with it, if they name one."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """A row of the read side that the log does not give; `fields` name what differs, not how.

    `record` is whose row it is, nobody's where it is the workspace's. `revision` is the event that
    last made the row what it must be, once it was looked for.
    """

    table: str
    key: str
    difference: Difference
    fields: tuple[str, ...] = ()
    record: str = ""
    revision: int = 0


def owner_of(table: str, key: str, row: Row | None) -> str:
    """Name the record whose row it is; nobody where it is the workspace's."""
    told = (row or {}).get("record")
    if isinstance(told, str):
        return told
    parts = key.split("/")
    part = parts[-1] if table in _OWNER_LAST else parts[0]
    return part if _UUID.fullmatch(part) else ""


async def first_of(
    log: LogReader, found: Iterable[Divergence], *, revision: int
) -> Divergence | None:
    """Give the one that the earliest event brought about, up to a revision, and that event.

    Raises `LogUnavailable` and `LogDamaged`.
    """
    by_record: dict[str, list[Divergence]] = {}
    for divergence in found:
        if divergence.record in by_record or len(by_record) < RECORDS_MAX:
            by_record.setdefault(divergence.record, []).append(divergence)
    placed: list[Divergence] = []
    for record, theirs in by_record.items():
        changed = await _changed_at(log, record, theirs, revision) if record else {}
        # What is the workspace's changes with every event.
        placed += [replace(d, revision=changed.get((d.table, d.key)) or revision) for d in theirs]
    return min(placed, key=lambda d: (d.revision, d.table, d.key), default=None)


async def _changed_at(
    log: LogReader, record: str, found: Iterable[Divergence], revision: int
) -> Mapping[tuple[str, str], int]:
    """Say by which event each of a customer's rows last changed."""
    prefix = Prefix(revision, BEGINNING)
    loaded = await load_customers(log, prefix, record_ids=[RecordId(record)])
    entries = within(loaded, prefix)
    places = {(d.table, d.key) for d in found}
    own = [entry.revision for entry in entries if entry.stream.key == record]
    if len(entries) > EVENTS_MAX:
        return dict.fromkeys(places, max(own, default=0))
    tables, rows, changed = MemoryTables(), dict[tuple[str, str], Row | None](), {}
    for decision in decisions_of(entries):
        fold_excerpt(tables, decision)
        for place in places:
            row = tables.get(place[0], place[1].encode())
            if row != rows.get(place):
                rows[place], changed[place] = row, decision[-1].revision
    return changed
