"""A snapshot as a message: what it stands for in open headers, its state sealed in the body.

The state is under the data key of its record, bound to everything that the headers say. Nothing in
the headers is personal, so heads can be compared with the log without any key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId
from eventlog.keys.port import DataKey
from eventlog.port import Head
from eventlog.snapshots.port import Snapshot

SCHEMA = "koseki-schema"
REVISION = "koseki-revision"
VERSION = "koseki-version"
DIGEST = "koseki-digest"

NONCE_BYTES = 12


class SealedSnapshot(NamedTuple):
    """A snapshot as it rests."""

    headers: Mapping[str, str]
    body: bytes


def seal(snapshot: Snapshot, key: DataKey) -> SealedSnapshot:
    """Seal a snapshot under its record's key."""
    headers = {
        SCHEMA: snapshot.schema,
        REVISION: str(snapshot.head.revision),
        VERSION: str(snapshot.head.version),
        DIGEST: snapshot.head.digest.hex(),
    }
    nonce = os.urandom(NONCE_BYTES)
    body = AESGCM(key).encrypt(nonce, snapshot.state, _associated(snapshot.record_id, headers))
    return SealedSnapshot(headers, nonce + body)


def unseal(record_id: RecordId, sealed: SealedSnapshot, key: DataKey) -> Snapshot | None:
    """Open a snapshot; None where it is damaged, or was never one of this record."""
    headers, body = sealed
    try:
        associated = _associated(record_id, headers)
        state = AESGCM(key).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], associated)
        digest = bytes.fromhex(headers[DIGEST])
        head = Head(int(headers[REVISION]), int(headers[VERSION]), digest)
    except (InvalidTag, KeyError, ValueError):
        return None
    return Snapshot(record_id, headers[SCHEMA], head, state)


def _associated(record_id: RecordId, headers: Mapping[str, str]) -> bytes:
    named = [record_id, *(headers[name] for name in (SCHEMA, REVISION, VERSION, DIGEST))]
    return "/".join(named).encode()
