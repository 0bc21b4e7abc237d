"""Dead letters are sealed under a key of their day, and unreadable once that is destroyed (R14).

A day here is an eighth of the longest time for which letters may be kept. Its key is destroyed
seven days after it began, which leaves the steward (`OutdatedLetters`) one day to do it in: no
letter is readable for longer, and none for less than three quarters of that time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.port import KeyStore, NoKey

FAMILY = "letterkey"
"""Where the keys lie: apart from those of records, which no ingest worker may read."""

DAY_PARTS = 8
DAYS_KEPT = 7
NONCE_BYTES = 12
SEAL_BYTES_MAX = 128
"""What sealing adds to a letter at most, the owner's name included."""

_OWNER = re.compile(r"day-(\d{1,12})-(\d{1,12})")


class LetterSeal:
    """Seal and open letters of one workspace."""

    def __init__(
        self,
        keys: KeyStore,
        *,
        kept_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._day_milliseconds = max(1, int(kept_seconds * 1_000 / DAY_PARTS))
        self._now = now
        self._today: tuple[str, bytes] = ("", b"")

    async def seal(self, plain: bytes) -> bytes:
        """Seal a letter; its first line names the key. Raises `LogUnavailable`."""
        owner = self._owner()
        if self._today[0] != owner:
            key = (await self._keys.ensure([RecordId(owner)]))[RecordId(owner)]
            if isinstance(key, NoKey):
                raise LogUnavailable(f"the key of dead letters of this day was {key.value}")
            self._today = (owner, key)
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(self._today[1]).encrypt(nonce, plain, owner.encode())
        return owner.encode() + b"\n" + nonce + sealed

    async def open(self, sealed: bytes) -> bytes | None:
        """Open a letter; None where it cannot be any more. Raises `LogUnavailable`."""
        name, _, rest = sealed.partition(b"\n")
        owner = RecordId(name.decode(errors="replace"))
        if not _OWNER.fullmatch(owner):
            return None
        key = (await self._keys.load([owner]))[owner]
        if isinstance(key, NoKey):
            return None
        try:
            return AESGCM(key).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], name)
        except InvalidTag:
            return None

    def _owner(self) -> str:
        milliseconds = int(self._now().timestamp() * 1_000)
        return f"day-{self._day_milliseconds}-{milliseconds // self._day_milliseconds}"


class OutdatedLetters:
    """Destroys the keys of days that are over; what a steward began and left, the next one ends."""

    def __init__(self, keys: JetStreamKeyStore) -> None:
        self._keys = keys
        self._is_turned_over = False

    async def destroy(self, now: datetime) -> int:
        """Destroy the keys of days that are over; say how many. Raises `LogUnavailable`."""
        outdated: set[RecordId] = set()
        is_any_destroyed = False
        async with aclosing(self._keys.messages()) as pages:
            async for page in pages:
                outdated |= {m.owner for m in page if not m.is_tombstone and is_over(m.owner, now)}
                is_any_destroyed |= any(message.is_tombstone for message in page)
        if outdated:
            self._is_turned_over = False
            await self._keys.destroy(outdated)
        if not self._is_turned_over and (outdated or is_any_destroyed):
            await self._keys.turn_over()
            self._is_turned_over = True
        return len(outdated)


def is_over(owner: str, now: datetime) -> bool:
    """Say whether the letters of a day were kept long enough."""
    named = _OWNER.fullmatch(owner)
    if named is None:
        return False
    day, number = timedelta(milliseconds=int(named[1])), int(named[2])
    return now >= datetime.fromtimestamp(0, UTC) + day * (number + DAYS_KEPT)
