"""What `koseki attest` and `koseki verify --attestation` do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import ValidationError

from app.bootstrap import open_connection
from app.proof import damage_figures, replica_figures
from app.settings import Settings, ensure_attestation_key
from app.status import running_settings
from eventlog.errors import LogDamaged
from eventlog.jetstream import JetStreamEventLog
from projections.store import Store
from replay.attestation import Attestation, attest, check_attestation
from replay.damage import Damage, survey_damage
from replay.fold import Progress


class NotAnAttestation(Exception):
    """A file that is not what it was given as."""


def attest_now(settings: Settings) -> Attestation:
    """Sign how far the read side has come. Raises `NotRunning`, `ReadSideError` or `OSError`."""
    settings = running_settings(settings)
    store = Store.open_reader(settings.read_side_folder)
    try:
        key = ensure_attestation_key(settings)
        return attest(settings.workspace, store.checkpoint, key, now=datetime.now(UTC))
    finally:
        store.close()


async def check_file(
    attestation_file: Path, public_key_file: Path, *, settings: Settings, progress: Progress
) -> dict[str, Any]:
    """Compare the log on some servers with an attestation, by a public key and nothing else.

    Raises `NotAnAttestation`, `CredentialsFault`, `OSError` or `LogError`.
    """
    attestation, public_key = _read(attestation_file, public_key_file)
    connection = await open_connection(settings, "verify", role="reader")
    try:
        log = JetStreamEventLog(connection, attestation.workspace)
        finding, damage = await _check(log, attestation, public_key, progress)
        replicas = await log.replicas_read()
    finally:
        await connection.close()
    return {
        "holds": finding == "holds",
        "finding": finding,
        **replica_figures(replicas),
        "workspace": attestation.workspace,
        "revision": attestation.revision,
        "attested_at": attestation.attested_at.isoformat(),
        **damage_figures(damage),
    }


async def _check(
    log: JetStreamEventLog,
    attestation: Attestation,
    public_key: Ed25519PublicKey,
    progress: Progress,
) -> tuple[str, Damage | None]:
    try:
        finding: str = await check_attestation(log, attestation, public_key, progress=progress)
    except LogDamaged as error:
        finding = f"log_damaged: {error.message}"
    if finding in {"holds", "bad_signature", "other_workspace"}:
        return finding, None
    return finding, await survey_damage(log, {}, known_revision=attestation.revision)


def _read(attestation_file: Path, public_key_file: Path) -> tuple[Attestation, Ed25519PublicKey]:
    try:
        attestation = Attestation.model_validate_json(attestation_file.read_bytes())
    except ValidationError as error:
        raise NotAnAttestation(f"{attestation_file} is not an attestation") from error
    return attestation, read_public_key(public_key_file)


def read_public_key(public_key_file: Path) -> Ed25519PublicKey:
    """Read the public half of a key that signs. Raises `NotAnAttestation` and `OSError`."""
    try:
        public_key = load_pem_public_key(public_key_file.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotAnAttestation(f"{public_key_file} is not a public key") from error
    if not isinstance(public_key, Ed25519PublicKey):
        raise NotAnAttestation(f"{public_key_file} is not an Ed25519 key")
    return public_key
