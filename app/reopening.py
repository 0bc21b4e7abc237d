"""What `koseki reopen` does: a log whose loss was accepted takes writes and gives answers again.

Of the records that the read side knows, those whose chains and ends the log still gives are open
again; those that lost events stay closed (`closed.py`). What contradicted the log is set aside, so
marks begin anew and the read side is made again. It takes a log that lost its end, or in which
events were replaced: with a hole in its middle it cannot be read in order, and with losses beyond
the read side nobody knows whose they were. Those go back from a replica or a backup.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from app.closed import CLOSED_MAX, Acceptance, ClosedRecord, closed_records, note_acceptance
from app.integrity import known_witnesses
from app.reaching import reached
from app.settings import Settings
from eventlog.guard import contradictions
from eventlog.jetstream import JetStreamEventLog
from eventlog.marks import Mark
from eventlog.port import Shape, Witness
from projections.heads import HEADS, heads_in
from projections.store import Store
from projections.tables import Checkpoint
from replay.damage import Damage, TouchedRecord, survey_damage


class NotReopened(Exception):
    """The log cannot be reopened so; the message says why, and what to do instead."""


async def reopen(settings: Settings, *, accept_lost: int | None, by: str) -> dict[str, Any]:
    """Accept what is lost, and open what is whole, while nothing runs on the data folder.

    Raises `NotReopened`, `StartFailed`, `LogError`, `ReadSideError` and `OSError`.
    """
    async with reached(settings, role="reader", may_run=False) as (found, connection):
        log = JetStreamEventLog(connection, found.workspace, closed=closed_records(found))
        shape = await log.shape()
        faults, damage = await _damage(found, log, shape)
        lost = damage.lost_events + damage.replaced_events
        if accept_lost != lost:
            raise NotReopened(
                f"{lost} events are gone or replaced, of {damage.records_touched} known records;"
                f" to accept that: --accept-lost {lost}"
            )
        acceptance = _acceptance(damage, faults, shape, by=by)
        last = await log.digest_at(shape.last_revision) if shape.last_revision else None
    note_acceptance(found, acceptance)
    _set_aside(found, acceptance.accepted_at)
    if last is not None:
        mark = Mark.open(found.marks_folder)
        mark.note(shape.last_revision, last)
        mark.close()
    return {
        "last_revision": shape.last_revision,
        "accepted_events": lost,
        "records_closed": len(acceptance.records),
        "closed_file": str(found.closed_file),
    }


async def _damage(
    settings: Settings, log: JetStreamEventLog, shape: Shape
) -> tuple[list[str], Damage]:
    """Survey a log that contradicts what is known of it; refuse what cannot be told apart."""
    store = Store.open_reader(settings.read_side_folder)
    try:
        with store.snapshot() as tables:
            checkpoint = tables.checkpoint
            heads = heads_in(tables.scan(HEADS, b""))
    finally:
        store.close()
    witnesses = known_witnesses(settings, checkpoint)
    faults = [*shape.faults, *await contradictions(log, witnesses, shape)]
    if not faults:
        raise NotReopened("the log agrees with all that is known of it: nothing is closed")
    await _require_known(log, shape, checkpoint, witnesses)
    known = max([checkpoint.revision, *(witness.revision for witness in witnesses)])
    damage = await survey_damage(log, heads, known_revision=known)
    if any(first <= shape.last_revision for first, _ in damage.lost):
        raise NotReopened("events are gone from the middle of the log: go back from a backup")
    if damage.records_touched > min(len(damage.records), CLOSED_MAX):
        raise NotReopened(
            f"{damage.records_touched} records lost events, {CLOSED_MAX} at most can be closed:"
            " go back from a backup"
        )
    return faults, damage


async def _require_known(
    log: JetStreamEventLog, shape: Shape, checkpoint: Checkpoint, witnesses: Sequence[Witness]
) -> None:
    """Require that the read side had folded everything that is gone."""
    if shape.faults:
        what = ", ".join(shape.faults)
        raise NotReopened(f"the log's shape does not hold ({what}): go back from a backup")
    for witness in witnesses:
        if witness.revision > checkpoint.revision and await contradictions(log, [witness], shape):
            raise NotReopened(
                f"the read side ends at revision {checkpoint.revision}, and events up to"
                f" {witness.revision} are gone: nobody knows of which records; go back from a"
                " backup"
            )


def _acceptance(damage: Damage, faults: list[str], shape: Shape, *, by: str) -> Acceptance:
    return Acceptance(
        accepted_by=by,
        accepted_at=datetime.now(UTC),
        log_faults=tuple(faults),
        last_revision=shape.last_revision,
        lost_revisions=tuple(f"{first}-{last}" for first, last in damage.lost),
        replaced_revisions=tuple(damage.replaced),
        records=tuple(_closed(record) for record in damage.records),
    )


def _closed(record: TouchedRecord) -> ClosedRecord:
    """Name the end that the log lacks; for a record of which none is known, one that never was."""
    head = record.expected
    return ClosedRecord(
        record_id=record.record_id,
        revision=head.revision or record.found.revision + 1,
        version=head.version or record.found.version + 1,
        digest=head.digest.hex(),
    )


def _set_aside(settings: Settings, now: datetime) -> None:
    """Move away what contradicts the log; the read side last, for it says what is lost."""
    target = settings.set_aside_folder / now.strftime("%Y%m%dT%H%M%S.%fZ")
    target.mkdir(parents=True)
    known = {
        "attestations": settings.attestations_folder,
        "marks": settings.marks_folder,
        "read-side": settings.read_side_folder,
    }
    for name, folder in known.items():
        if folder.exists():
            folder.rename(target / name)
