"""Seals what is personal of an event under its record's data key, and opens it again (R4).

All personal fields of a body are one AES-256-GCM ciphertext, bound to the record and the event, in
the field `sealed` beside the open ones. It is base64: a body stays JSON for every tool, for a third
more of a part that is small. Only records have keys; other streams hold nothing personal.
"""

from __future__ import annotations

import asyncio
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId, Stream, StreamKind
from eventlog.codec import (
    Encodable,
    Undecodable,
    Unsealed,
    Unsealing,
    encode_json,
)
from eventlog.envelope import NO_KEY, Envelope
from eventlog.errors import LogUnavailable, WorkspaceKeyMissing
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import KeyAnswer, NoKey
from eventlog.port import Attempt
from eventlog.registry import Fields

SEALED = "sealed"
RECORD_KEY = "record/1"
"""The key id of the first epoch of the data key of the record that the event lies on."""

NONCE_BYTES = 12
NONCES_DRAWN = 32
"""Nonces drawn at once: asking the kernel for each takes as long as sealing does."""

RETRY_SECONDS_MIN = 0.01
RETRY_SECONDS_MAX = 0.25


class RecordErased(Exception):
    """Something personal was to be stored under a key that is destroyed, or damaged."""


class RecordSealing:
    """Seal and open under the keys of one batch of events, which came from a ring, if any."""

    def __init__(
        self,
        keys: Mapping[RecordId, KeyAnswer],
        *,
        ring: KeyRing | None = None,
        nonces: Iterator[bytes] | None = None,
    ) -> None:
        self._keys = keys
        self._ring = ring
        self._ciphers: dict[str, AESGCM] = {}
        # Random, unless the same bytes must come out again, as in recorded streams for tests.
        self._nonces = nonces or _draw_nonces()

    def seal(self, event: Encodable, fields: Fields) -> tuple[Fields, str]:
        """Put the personal fields of a body under seal; `RecordErased` where there is no key."""
        if not event.body.PERSONAL or event.stream.kind is not StreamKind.RECORD:
            return fields, NO_KEY
        cipher = self._cipher(event.stream.key)
        if isinstance(cipher, NoKey):
            raise RecordErased
        personal = {name: fields.pop(name) for name in event.body.PERSONAL}
        nonce = next(self._nonces)
        associated = f"{event.stream.key}/{event.event_id}".encode()
        sealed = nonce + cipher.encrypt(nonce, encode_json(personal), associated)
        fields[SEALED] = _text_of(sealed)
        return fields, RECORD_KEY

    def unseal(self, stream: Stream, envelope: Envelope, fields: Fields) -> Unsealing:
        """Open what was sealed; `Undecodable` where that cannot be and nobody destroyed the key."""
        key_id = envelope.key_id
        if key_id == NO_KEY:
            return Unsealing(fields, is_erased=False)
        if key_id != RECORD_KEY or stream.kind is not StreamKind.RECORD:
            raise Undecodable("the body is sealed under a key of an unknown kind")
        cipher = self._cipher(stream.key)
        sealed = fields.pop(SEALED, None)
        if cipher is NoKey.DESTROYED:
            return Unsealing(fields, is_erased=True)
        if isinstance(cipher, NoKey):
            raise Undecodable(f"the body is sealed under a key that was {cipher.value}")
        associated = f"{stream.key}/{envelope.event_id}".encode()
        fields |= _opened(sealed, cipher, associated)
        return Unsealing(fields, is_erased=False)

    def _cipher(self, record_id: str) -> AESGCM | NoKey:
        cipher = self._ciphers.get(record_id)
        if cipher is not None:
            return cipher
        key = self._keys[RecordId(record_id)]
        if isinstance(key, NoKey):
            return key
        made = AESGCM(key) if self._ring is None else self._ring.cipher(RecordId(record_id), key)
        self._ciphers[record_id] = made
        return made


class Keyless(Unsealed):
    """Opens nothing: reads each body as it reads after its key was destroyed."""

    def unseal(
        self,
        stream: Stream,  # noqa: ARG002  # the protocol's
        envelope: Envelope,
        fields: Fields,
    ) -> Unsealing:
        """Leave out what is sealed."""
        if envelope.key_id == NO_KEY:
            return Unsealing(fields, is_erased=False)
        fields.pop(SEALED, None)
        return Unsealing(fields, is_erased=True)


def is_sealed(key_id: str | None) -> bool:
    """Say by its key id whether a body is sealed."""
    return key_id is not None and key_id != NO_KEY


async def sealing_to_write(
    ring: KeyRing, attempt: Attempt, *, timeout_seconds: float
) -> RecordSealing:
    """Have a key for every record that something personal is written to.

    Tries until the time is up, then raises `LogUnavailable`: nothing of the attempt was sent.
    """
    records = {
        RecordId(draft.stream.key): draft.stream
        for draft in attempt.drafts
        if draft.body.PERSONAL and draft.stream.kind is StreamKind.RECORD
    }
    held = ring.held_all(records)
    if held is not None:
        return RecordSealing(held, ring=ring)
    known = {r for r, stream in records.items() if attempt.expected[stream].version}
    new = records.keys() - known
    pause = RETRY_SECONDS_MIN
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                try:
                    return RecordSealing(await ring.ensure(known=known, new=new), ring=ring)
                except WorkspaceKeyMissing:
                    raise
                except LogUnavailable:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_SECONDS_MAX)
    except TimeoutError:
        raise LogUnavailable("the key store did not answer in time") from None


def _draw_nonces() -> Iterator[bytes]:
    """Give random nonces for ever, each one once."""
    while True:
        drawn = os.urandom(NONCE_BYTES * NONCES_DRAWN)
        for start in range(0, len(drawn), NONCE_BYTES):
            yield drawn[start : start + NONCE_BYTES]


def _text_of(sealed: bytes) -> str:
    return b2a_base64(sealed, newline=False).decode()


def _bytes_of(text: str) -> bytes:
    """Read base64, but no second way to write the same bytes."""
    sealed = a2b_base64(text, strict_mode=True)
    if _text_of(sealed) != text:
        raise ValueError("the last letter holds bits that nothing covers")
    return sealed


def _opened(sealed: object, cipher: AESGCM, associated: bytes) -> Fields:
    if not isinstance(sealed, str):
        raise Undecodable("the sealed part is missing")
    try:
        raw = _bytes_of(sealed)
        plain = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise Undecodable("the seal does not hold") from None
    fields: Fields = orjson.loads(plain)
    return fields
