"""Proof that a read side equals the log: both folds at one revision, row by row (R3, R17).

The caller gives the read side as `ReadTables` (a snapshot of a store); this module opens none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from eventlog.errors import LogDamaged
from eventlog.port import EventLog
from projections.fold import TABLES
from projections.tables import (
    DIGEST_MODULUS,
    Checkpoint,
    MemoryTables,
    ReadTables,
    Row,
    encode_row,
    row_digest,
)
from replay.fold import Progress, fold_log, silent

Difference = Literal["missing", "unexpected", "different"]
_Found = tuple[bytes, Row | None, Row | None]
"""A key, the row that the log gives, and the row that the read side has."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """A row of the read side that the log does not give; `fields` name what differs, not how."""

    table: str
    key: str
    difference: Difference
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Verification:
    """What was compared at which revision, and what did not agree.

    `faults` are stable reasons: `log_damaged`, `event_digest`, `log_digest`, `rows_digest` (the
    digest kept beside the rows is not the log's), `rows_changed` (nor that of the rows themselves).
    """

    checkpoint: Checkpoint
    replayed: Checkpoint | None = None
    rows_compared: int = 0
    divergences: int = 0
    first: Divergence | None = None
    faults: list[str] = field(default_factory=list)
    log_fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether the read side is proved."""
        return not self.faults and not self.divergences


async def verify(
    log: EventLog, read_side: ReadTables, *, progress: Progress = silent
) -> Verification:
    """Fold the log up to the read side's checkpoint and compare. Raises `LogUnavailable` only."""
    found = Verification(read_side.checkpoint)
    shape = await log.shape()
    if shape.faults:
        return _damaged(found, f"the log's shape does not hold: {', '.join(shape.faults)}")
    revision = found.checkpoint.revision
    try:
        replayed = await fold_log(log, through_revision=revision, progress=progress)
    except LogDamaged as damaged:
        return _damaged(found, damaged.message)
    found.replayed = replayed.checkpoint
    _compare_digests(found, replayed.checkpoint)
    _compare_rows(found, replayed, read_side)
    return found


def _damaged(found: Verification, message: str) -> Verification:
    found.faults.append("log_damaged")
    found.log_fault = message
    return found


def _compare_digests(found: Verification, replayed: Checkpoint) -> None:
    kept = found.checkpoint
    if kept.event_digest != replayed.event_digest:
        found.faults.append("event_digest")
    if kept.log_digest != replayed.log_digest:
        found.faults.append("log_digest")
    if kept.rows_digest != replayed.rows_digest:
        found.faults.append("rows_digest")


def _compare_rows(found: Verification, replayed: MemoryTables, read_side: ReadTables) -> None:
    total = 0
    for table in TABLES:
        for key, wanted, present in _side_by_side(replayed, read_side, table):
            found.rows_compared += 1
            if present is not None:
                total += row_digest(table, key, encode_row(present))
            if wanted != present:
                found.divergences += 1
                found.first = found.first or _divergence(table, key, wanted, present)
    if (total % DIGEST_MODULUS).to_bytes(32, "big") != found.checkpoint.rows_digest:
        found.faults.append("rows_changed")


def _side_by_side(replayed: ReadTables, read_side: ReadTables, table: str) -> Iterator[_Found]:
    """Walk a table in both, in order of keys."""
    ours, theirs = replayed.scan(table, b""), read_side.scan(table, b"")
    wanted, present = next(ours, None), next(theirs, None)
    while wanted is not None or present is not None:
        if present is None or (wanted is not None and wanted[0] < present[0]):
            assert wanted is not None
            yield wanted[0], wanted[1], None
            wanted = next(ours, None)
        elif wanted is None or present[0] < wanted[0]:
            yield present[0], None, present[1]
            present = next(theirs, None)
        else:
            yield wanted[0], wanted[1], present[1]
            wanted, present = next(ours, None), next(theirs, None)


def _divergence(table: str, key: bytes, wanted: Row | None, present: Row | None) -> Divergence:
    name = key.decode(errors="backslashreplace")
    if present is None:
        return Divergence(table, name, "missing")
    if wanted is None:
        return Divergence(table, name, "unexpected")
    names = sorted(wanted.keys() | present.keys())
    fields = tuple(n for n in names if wanted.get(n) != present.get(n))
    return Divergence(table, name, "different", fields)
