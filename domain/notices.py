"""The notices that people are shown: a version in a language, and the digest of its text."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

NOTICE_CHARACTERS_MAX = 20_000
NOTICES_PER_PURPOSE_MAX = 256


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice as published; its text is in the event that published it."""

    version: str
    language: str
    digest: str


def notice_digest(text: str) -> str:
    """Digest a notice's text: SHA-256 of its UTF-8 bytes, in hex."""
    return sha256(text.encode()).hexdigest()
