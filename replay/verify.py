"""Proof that a read side equals the log: both folds at one revision, row by row (R3, R17).

Where its rows hold, the sets that are made from them are compared with them (`sets.py`). The caller
gives the read side (a snapshot of a store); this module opens none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from eventlog.errors import LogDamaged
from eventlog.guard import contradictions
from eventlog.port import LogReader, Witness
from projections.errors import RowUnreadable
from projections.fold import TABLES
from projections.heads import HEADS, heads_in
from projections.parking import Parked, parked
from projections.row_keys import in_thread
from projections.rows import Row, RowCodec
from projections.tables import DIGEST_MODULUS, Checkpoint, ReadTables
from replay.damage import Damage, survey_damage
from replay.divergence import Difference, Divergence, first_of, owner_of
from replay.fold import READ_EVENTS_MAX, Progress, Scratches, fold_into, in_memory, silent
from replay.sets import SetProof
from replay.sharing import Refolded

PARKED_NAMED_MAX = 20
"""Parked customers that a verification names."""

_Pair = tuple[bytes, bytes | None, bytes | None]
"""A key, the row that the log gives, and the row that the read side has, as stored."""

DIVERGENCES_PLACED_MAX = 200
"""Rows that differ of which the first by revision is looked for."""

ROWS_AT_ONCE_MAX = 1_000
"""Rows whose keys are loaded together."""


class RefoldFailed(Exception):
    """A fold in shares came to no end; a single fold says what is true."""


Refold = Callable[[int, Progress], Awaitable[Refolded | None]]
"""Folds the log up to a revision in shares, or not at all. May raise `RefoldFailed`."""


@dataclass(slots=True)
class Verification:
    """What was compared at which revision, and what did not agree.

    `damage` says what of the log is gone, where something is. `faults` are stable reasons:
    `log_damaged`, `event_digest`, `log_digest`, `rows_digest` (the digest kept beside the rows is
    not the log's), `rows_changed` (nor that of the rows themselves), `sets_changed` (sets are not
    those that the rows give). `divergences` counts rows, and members of sets, which are looked at
    where the rows hold. `parked` names whose events cannot be read, the first of them, and why:
    they wait in both folds.
    """

    checkpoint: Checkpoint
    replayed: Checkpoint | None = None
    rows_compared: int = 0
    sets_compared: int = 0
    is_folded_in_shares: bool = False
    divergences: int = 0
    first: Divergence | None = None
    faults: list[str] = field(default_factory=list)
    log_fault: str = ""
    parked: tuple[Parked, ...] = ()
    damage: Damage | None = None

    @property
    def holds(self) -> bool:
        """Whether the read side is proved."""
        return not self.faults and not self.divergences


async def verify(
    log: LogReader,
    read_side: ReadTables,
    *,
    witnesses: Sequence[Witness] = (),
    progress: Progress = silent,
    batch_events_max: int = READ_EVENTS_MAX,
    refold: Refold | None = None,
    scratch: Scratches = in_memory,
) -> Verification:
    """Fold the log up to the read side's checkpoint and compare. Raises `LogUnavailable` only.

    With `refold` it is folded in shares, and digests are compared; only where they differ is it
    folded once more, into `scratch`, to say what differs. `witnesses` are what marks and
    attestations know; a log that contradicts one is damaged.
    """
    found = Verification(read_side.checkpoint)
    shape = await log.shape()
    faults = shape.faults or tuple(dict.fromkeys(await contradictions(log, witnesses, shape)))
    if faults:
        _damaged(found, f"the log is not the one that was written: {', '.join(faults)}")
    elif refold is None or not await _agrees(found, read_side, refold, progress):
        await _compare(
            found,
            log,
            read_side,
            progress=progress,
            batch_events_max=batch_events_max,
            scratch=scratch,
        )
    if found.holds:
        await _compare_sets(found, read_side)
    if {"log_damaged", "event_digest", "log_digest"} & set(found.faults):
        known = max([found.checkpoint.revision, *(witness.revision for witness in witnesses)])
        try:
            heads = heads_in(_rows(read_side, HEADS))
            found.damage = await survey_damage(log, heads, known_revision=known)
        except LogDamaged as damaged:
            found.log_fault = found.log_fault or damaged.message
    return found


def _rows(read_side: ReadTables, table: str) -> Iterator[tuple[bytes, Row]]:
    for key, stored in read_side.scan_stored(table, b""):
        yield key, read_side.codec.read(table, key, stored)


async def _agrees(
    found: Verification, read_side: ReadTables, refold: Refold, progress: Progress
) -> bool:
    """Whether a fold in shares, the digest that is kept and the rows themselves all agree."""
    try:
        refolded = await refold(found.checkpoint.revision, progress)
    except (LogDamaged, RefoldFailed):
        return False  # a single fold says where and how
    if refolded is None or refolded.checkpoint != found.checkpoint:
        return False
    total, rows = await asyncio.to_thread(_sum_of, read_side)
    if (total, rows) != (found.checkpoint.rows_digest, refolded.rows):
        return False
    found.replayed = refolded.checkpoint
    found.parked = refolded.parked[:PARKED_NAMED_MAX]
    found.rows_compared = rows
    found.is_folded_in_shares = True
    return True


def _sum_of(read_side: ReadTables) -> tuple[bytes, int]:
    """Digest the rows as they are, whatever digest is kept, and count them."""
    total = rows = 0
    for table in TABLES:
        for key, stored in read_side.scan_stored(table, b""):
            total += read_side.codec.digest(table, key, stored)
            rows += 1
    return (total % DIGEST_MODULUS).to_bytes(32, "big"), rows


async def _compare(
    found: Verification,
    log: LogReader,
    read_side: ReadTables,
    *,
    progress: Progress,
    batch_events_max: int,
    scratch: Scratches,
) -> None:
    revision = found.checkpoint.revision
    with scratch(log, revision) as kept:
        try:
            await fold_into(
                log,
                kept,
                through_revision=revision,
                progress=progress,
                batch_events_max=batch_events_max,
            )
        except LogDamaged as damaged:
            _damaged(found, damaged.message)
            return
        with kept.snapshot() as replayed:
            found.replayed = kept.checkpoint
            found.parked = tuple(islice(parked(replayed), PARKED_NAMED_MAX))
            _compare_digests(found, kept.checkpoint)
            differing = await _compare_rows(found, replayed, read_side)
    try:
        found.first = await first_of(log, differing, revision=revision)
    except LogDamaged as damaged:  # beyond the checkpoint, or on another replica
        _damaged(found, damaged.message)


async def _compare_sets(found: Verification, read_side: ReadTables) -> None:
    """Compare the sets with the rows, which are proved, in steps between which others go on."""
    proof = SetProof(read_side)
    steps = proof.steps()
    while await in_thread(partial(next, steps, None), read_side.codec) is not None:
        pass
    found.sets_compared, found.divergences = proof.compared, proof.differences
    if proof.first is not None:
        found.faults.append("sets_changed")
        found.first = replace(proof.first, revision=found.checkpoint.revision)


def _damaged(found: Verification, message: str) -> None:
    found.faults.append("log_damaged")
    found.log_fault = message


def _compare_digests(found: Verification, replayed: Checkpoint) -> None:
    kept = found.checkpoint
    if kept.event_digest != replayed.event_digest:
        found.faults.append("event_digest")
    if kept.log_digest != replayed.log_digest:
        found.faults.append("log_digest")
    if kept.rows_digest != replayed.rows_digest:
        found.faults.append("rows_digest")


async def _compare_rows(
    found: Verification, replayed: ReadTables, read_side: ReadTables
) -> list[Divergence]:
    """Compare row by row, and give the first rows that differ."""
    total = 0
    differing: list[Divergence] = []
    for table in TABLES:
        for pairs in _in_pieces(_side_by_side(replayed, read_side, table)):
            found.rows_compared += len(pairs)
            total += sum(read_side.codec.digest(table, k, p) for k, _, p in pairs if p is not None)
            compare = _Comparison(table, pairs, replayed.codec, read_side.codec)
            divergences = await in_thread(compare.divergences, replayed.codec, read_side.codec)
            found.divergences += len(divergences)
            differing += divergences[: DIVERGENCES_PLACED_MAX - len(differing)]
    if (total % DIGEST_MODULUS).to_bytes(32, "big") != found.checkpoint.rows_digest:
        found.faults.append("rows_changed")
    return differing


@dataclass(frozen=True, slots=True)
class _Comparison:
    table: str
    pairs: list[_Pair]
    ours: RowCodec
    theirs: RowCodec

    def divergences(self) -> list[Divergence]:
        """Name every row that differs. Raises `KeysNotHeld`."""
        wanted = [(key, row) for key, row, _ in self.pairs if row is not None]
        present = [(key, row) for key, _, row in self.pairs if row is not None]
        self.ours.need_of(self.table, wanted)
        self.theirs.need_of(self.table, present)
        found = (self._divergence(*pair) for pair in self.pairs)
        return [divergence for divergence in found if divergence is not None]

    def _divergence(
        self, key: bytes, wanted: bytes | None, present: bytes | None
    ) -> Divergence | None:
        name = key.decode(errors="backslashreplace")
        if present is None or wanted is None:
            difference: Difference = "missing" if present is None else "unexpected"
            return Divergence(
                self.table, name, difference, record=self._owner(key, wanted, present)
            )
        expected = self.ours.read(self.table, key, wanted)
        record = owner_of(self.table, name, expected)
        try:
            read = self.theirs.read(self.table, key, present)
        except RowUnreadable:
            return Divergence(self.table, name, "different", ("sealed",), record)
        if expected == read:
            return None
        names = sorted(expected.keys() | read.keys())
        fields = tuple(n for n in names if expected.get(n) != read.get(n))
        return Divergence(self.table, name, "different", fields, record)

    def _owner(self, key: bytes, wanted: bytes | None, present: bytes | None) -> str:
        name = key.decode(errors="backslashreplace")
        if wanted is not None:
            return owner_of(self.table, name, self.ours.read_open(self.table, wanted))
        assert present is not None
        return owner_of(self.table, name, self.theirs.read_open(self.table, present))


def _side_by_side(replayed: ReadTables, read_side: ReadTables, table: str) -> Iterator[_Pair]:
    """Walk a table in both, in order of keys."""
    ours, theirs = replayed.scan_stored(table, b""), read_side.scan_stored(table, b"")
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


def _in_pieces(pairs: Iterator[_Pair]) -> Iterator[list[_Pair]]:
    while piece := list(islice(pairs, ROWS_AT_ONCE_MAX)):
        yield piece
