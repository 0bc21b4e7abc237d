"""The attestations that a running installation signs by itself, and keeps in its data folder (R3).

One file per signed revision, the newest `ATTESTATIONS_MAX`. Copied elsewhere, they prove what the
log was even against somebody who can change all that lies here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.settings import Settings, ensure_attestation_key
from projections.tables import Checkpoint
from replay.attestation import Attestation, attest

ATTESTATIONS_MAX = 1_000
_DIGITS = 20
_log = structlog.get_logger()


def last_attestation(settings: Settings) -> Attestation | None:
    """Read the attestation of the latest revision. Raises `OSError` or `ValueError`."""
    files = _files(settings.attestations_folder)
    return Attestation.model_validate_json(files[-1].read_bytes()) if files else None


def attest_once(settings: Settings, checkpoint: Checkpoint) -> Attestation | None:
    """Sign a checkpoint and keep it, unless nothing came since the last. Raises `OSError`."""
    folder = settings.attestations_folder
    path = folder / f"{checkpoint.revision:0{_DIGITS}}.json"
    if not checkpoint.revision or path.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    key = ensure_attestation_key(settings)
    attested = attest(settings.workspace, checkpoint, key, now=datetime.now(UTC))
    _write_durably(path, attested.model_dump_json().encode())
    for old in _files(folder)[:-ATTESTATIONS_MAX]:
        old.unlink(missing_ok=True)
    return attested


async def attest_for_ever(
    settings: Settings, checkpoint: Callable[[], Checkpoint], *, is_sound: Callable[[], bool]
) -> None:
    """Sign every so often what the read side has folded, while the log holds."""
    while True:
        await asyncio.sleep(settings.attest_every_seconds)
        if not is_sound():
            continue
        try:
            attested = await asyncio.to_thread(attest_once, settings, checkpoint())
        except OSError as error:
            _log.warning("not_attested", error=type(error).__name__)
            continue
        if attested is not None:
            _log.info("attested", revision=attested.revision)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{'[0-9]' * _DIGITS}.json"))


def _write_durably(path: Path, content: bytes) -> None:
    """Put a file in its place, whole and synced, or not at all."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
