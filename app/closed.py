"""The records of a reopened log that stay closed, in a file of the data folder.

`koseki reopen` writes it (`reopening.py`); every process that decides or answers reads it as it
starts. It says who accepted what, and is never shortened.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from app.settings import Settings, write_atomically
from domain.ids import RecordId
from eventlog.errors import LogDamaged
from eventlog.port import Head

CLOSED_MAX = 1_000
"""Records that one act may close; a log that lost events of more goes back from a backup."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClosedRecord(_Part):
    """A record, and the event that it ended with, which the log no longer gives."""

    record_id: str
    revision: int
    version: int
    digest: str


class Acceptance(_Part):
    """Who accepted, when, what a log has lost."""

    accepted_by: str
    accepted_at: datetime
    log_faults: tuple[str, ...]
    last_revision: int
    lost_revisions: tuple[str, ...]
    replaced_revisions: tuple[int, ...]
    records: tuple[ClosedRecord, ...]


class AcceptedLosses(NamedTuple):
    """How often a loss was accepted, and the revision that the log ended with the last time."""

    times: int = 0
    last_revision: int = 0


NOTHING_LOST = AcceptedLosses()


class _File(_Part):
    acceptances: tuple[Acceptance, ...] = ()


def closed_records(settings: Settings) -> dict[RecordId, Head]:
    """Give the records that stay closed, and their lost ends. Raises `LogDamaged`, `OSError`."""
    return {
        RecordId(record.record_id): Head(
            record.revision, record.version, bytes.fromhex(record.digest)
        )
        for acceptance in _read(settings).acceptances
        for record in acceptance.records
    }


def accepted_losses(settings: Settings) -> AcceptedLosses:
    """Count the losses that were accepted. Raises `LogDamaged`, `OSError`."""
    acceptances = _read(settings).acceptances
    return AcceptedLosses(len(acceptances), acceptances[-1].last_revision if acceptances else 0)


def note_acceptance(settings: Settings, acceptance: Acceptance) -> None:
    """Add to the file what was accepted. Raises `LogDamaged` and `OSError`."""
    path = settings.closed_file
    acceptances = (*_read(settings).acceptances, acceptance)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _File(acceptances=acceptances).model_dump_json(indent=2).encode())


def _read(settings: Settings) -> _File:
    try:
        return _File.model_validate_json(settings.closed_file.read_bytes())
    except FileNotFoundError:
        return _File()
    except ValidationError:
        raise LogDamaged(f"{settings.closed_file} cannot be read: who stays closed?") from None
