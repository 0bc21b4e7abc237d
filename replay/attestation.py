"""Attestations: a signed statement that a log had a digest at a revision (R3), and its checking.

Whoever keeps an attestation elsewhere can later prove, with nothing but NATS and a public key, that
no event up to that revision was changed, dropped or put in. `D(r)` covers every event before it.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime
from typing import Literal

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from domain.ids import Name
from eventlog.envelope import extend_log_digest
from eventlog.port import ZERO_DIGEST, LogReader
from projections.tables import Checkpoint
from replay.fold import Progress, read_checked, silent

Finding = Literal["holds", "bad_signature", "other_workspace", "log_too_short", "log_differs"]
HexDigest = Field(pattern=r"^[0-9a-f]{64}$")


class Attestation(BaseModel):
    """`(revision, log_digest)` of a workspace, signed with Ed25519 (RFC 8032).

    `event_digest` is that of the event at the revision, by which a log is compared in one read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["koseki.attestation.v1"] = "koseki.attestation.v1"
    workspace: Name
    revision: int = Field(ge=0)
    event_digest: str = HexDigest
    log_digest: str = HexDigest
    attested_at: AwareDatetime
    public_key: str = HexDigest
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        """Give what the signature covers: everything else, as canonical JSON."""
        fields = self.model_dump(mode="json", exclude={"signature"})
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def attest(
    workspace: str, checkpoint: Checkpoint, key: Ed25519PrivateKey, *, now: datetime
) -> Attestation:
    """Sign the digest of the log as a read side has folded it."""
    unsigned = Attestation(
        workspace=workspace,
        revision=checkpoint.revision,
        event_digest=checkpoint.event_digest.hex(),
        log_digest=checkpoint.log_digest.hex(),
        attested_at=now,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature="0" * 128,
    )
    signature = key.sign(unsigned.signed_bytes()).hex()
    return unsigned.model_copy(update={"signature": signature})


async def check_attestation(
    log: LogReader,
    attestation: Attestation,
    public_key: Ed25519PublicKey,
    *,
    progress: Progress = silent,
) -> Finding:
    """Compare a log with an attestation. Raises `LogUnavailable` and `LogDamaged`."""
    try:
        public_key.verify(bytes.fromhex(attestation.signature), attestation.signed_bytes())
    except InvalidSignature:
        return "bad_signature"
    if attestation.workspace != log.workspace:
        return "other_workspace"
    if (await log.shape()).last_revision < attestation.revision:
        return "log_too_short"
    digest = await log_digest(log, attestation.revision, progress=progress)
    return "holds" if digest.hex() == attestation.log_digest else "log_differs"


async def log_digest(log: LogReader, revision: int, *, progress: Progress = silent) -> bytes:
    """Compute D(revision) from the log, every chain checked on the way. Raises `LogError`."""
    digest = ZERO_DIGEST
    reading = read_checked(log, through_revision=revision, progress=progress)
    async with aclosing(reading) as batches:
        async for entries in batches:
            for entry in entries:
                digest = extend_log_digest(digest, entry.revision, entry.digest)
    return digest
