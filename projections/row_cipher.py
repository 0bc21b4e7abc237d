"""What a record's key gives for its rows: a cipher, and the code that stands for them in digests.

Used by `rows.py` alone.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_TAG_KEY = b"koseki row tag v1"
_BLOCK_BYTES = 64
_PADS = tuple(bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
"""Of HMAC-SHA-256, as RFC 2104 has it: what each byte of the key becomes."""


class Hmac(NamedTuple):
    """HMAC-SHA-256 under a key: in two digests, a fifth of what `hmac` takes."""

    inner_pad: bytes
    outer_pad: bytes

    def of(self, text: bytes) -> bytes:
        """Give the code of a text."""
        return sha256(self.outer_pad + sha256(self.inner_pad + text).digest()).digest()


class RowCipher(NamedTuple):
    """What a record's key gives for its rows."""

    data_key: bytes
    cipher: AESGCM
    tags: Hmac


def row_cipher(data_key: bytes) -> RowCipher:
    """Derive what a record's rows are sealed with, and told by."""
    return RowCipher(data_key, AESGCM(data_key), _hmac_under(_hmac_under(data_key).of(_TAG_KEY)))


def _hmac_under(key: bytes) -> Hmac:
    """Take a key no longer than a block."""
    block = key.ljust(_BLOCK_BYTES, b"\0")
    return Hmac(*(block.translate(pad) for pad in _PADS))
