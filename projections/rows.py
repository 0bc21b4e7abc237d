"""How a row is kept: what is open of it as JSON, what is personal sealed under its record's key.

A row is `length of the open part (4) | open JSON | tag (32) | nonce (12) | ciphertext`, without the
last three where nothing personal is in it. The tag is an HMAC-SHA-256 of the canonical personal
fields under a key derived from the record's: the digest takes it in place of the ciphertext, so
equal rows have equal digests, and one can be taken off it without its key (R17). Once the key is
destroyed a row reads with its personal fields as they are declared for an erased record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from threading import local
from typing import Any, NamedTuple, Protocol

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId
from eventlog.keys.port import KeyAnswer, NoKey
from projections.errors import KeyDamaged, KeysNotHeld, RowUnreadable
from projections.row_cipher import RowCipher, row_cipher

Row = dict[str, Any]  # Any: JSON of a shape that only the model which owns the table knows

LENGTH_BYTES = 4
_LENGTH = Struct(">I")
_pack_length = _LENGTH.pack
_number = int.from_bytes
TAG_BYTES = 32
_TAG_LENGTH = _LENGTH.pack(TAG_BYTES)
NONCE_BYTES = 12
NONCES_DRAWN = 64
"""Nonces drawn at once: asking the kernel for each takes as long as sealing does."""

CIPHERS_HELD_MAX = 10_000
"""Of the records whose rows were read or written last, about 3 KB each: twice those of a batch."""

TABLE_NAMES_MAX = 256


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is personal in the rows of a table, and whose rows they are.

    `erased` names the personal fields, each with what a reader sees once the key is destroyed. A
    row whose personal fields are all as erased needs no key.
    """

    erased: Mapping[str, object]
    owner: Callable[[bytes, Row], RecordId]


class Written(NamedTuple):
    """A row as it is to be stored, and its part of the digest over all rows."""

    stored: bytes
    digest: int


Load = Callable[[frozenset[RecordId]], None]
"""Loads keys while the caller waits. Raises `LogUnavailable`, or `KeysNotHeld` at its end."""


class _PerThread(local):
    """Who loads keys for a thread that may wait for them."""

    load: Load | None = None


class RowCodec(Protocol):
    """Turns rows into what is stored, and back."""

    def write(self, table: str, key: bytes, row: Row) -> Written:
        """Write a row. Raises `KeysNotHeld`."""

    def read(self, table: str, key: bytes, stored: bytes) -> Row:
        """Read a row. Raises `KeysNotHeld`, or `RowUnreadable` where it was tampered with."""

    def read_open(self, table: str, stored: bytes) -> Row:
        """Read what is open of a row; needs no key."""

    def digest(self, table: str, key: bytes, stored: bytes) -> int:
        """Give a stored row's part of the digest over all rows; needs no key."""

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Have the keys of all these records at hand; raise `KeysNotHeld` where they are not."""

    def need_of(self, table: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Have the keys at hand that stored rows are read with, as `need` has those of records."""

    def waiting(self, load: Load) -> AbstractContextManager[None]:
        """Let this thread wait for the keys that it lacks: they are loaded by this call."""

    def opens(self, record_ids: Iterable[RecordId]) -> bool:
        """Say whether what is sealed of all these records can be read at once."""

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load the keys of records. Raises `LogUnavailable`."""

    def keys_of(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer] | None:
        """Give what is at hand of the keys of records; None where rows are not sealed."""

    @property
    def index_key(self) -> bytes | None:
        """The key of the HMACs that stand for personal values in indexes; None: keep none."""


class Keys(Protocol):
    """The data keys at hand, and the way to more."""

    def key_of(self, record_id: RecordId) -> KeyAnswer | None:
        """Give the key of a record, why there is none, or None where it was not loaded."""

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load keys. Raises `LogUnavailable`."""


def owned_by_key(key: bytes, _row: Row) -> RecordId:
    """Name the owner of a row whose key is a record id, or begins with one and a slash."""
    return RecordId(key.partition(b"/")[0].decode())


class OpenRows:
    """Keeps every row open: for a log whose bodies are not sealed either."""

    def write(self, table: str, key: bytes, row: Row) -> Written:
        """Write a row."""
        stored = encode_row(row)
        return Written(stored, row_digest(table, key, stored))

    def read(self, table: str, key: bytes, stored: bytes) -> Row:  # noqa: ARG002  # the protocol's
        """Read a row."""
        row: Row = orjson.loads(stored)
        return row

    def read_open(self, table: str, stored: bytes) -> Row:  # noqa: ARG002  # the protocol's
        """Read a row: all of it is open."""
        row: Row = orjson.loads(stored)
        return row

    def digest(self, table: str, key: bytes, stored: bytes) -> int:
        """Give a stored row's part of the digest over all rows."""
        return row_digest(table, key, stored)

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Need nothing."""

    def need_of(self, table: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Need nothing."""

    def waiting(self, load: Load) -> AbstractContextManager[None]:  # noqa: ARG002  # the protocol's
        """Wait for nothing."""
        return nullcontext()

    def opens(self, record_ids: Iterable[RecordId]) -> bool:  # noqa: ARG002  # the protocol's
        """Say yes: nothing is sealed."""
        return True

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load nothing."""

    def keys_of(self, record_ids: Iterable[RecordId]) -> None:  # the protocol's
        """Say that there are none."""

    @property
    def index_key(self) -> bytes | None:
        """Nothing is secret where rows are open."""
        return b""


class SealedRows:
    """Seals the personal fields of the tables that have any."""

    def __init__(
        self, sealed: Mapping[str, Sealed], keys: Keys, *, index_key: bytes | None = None
    ) -> None:
        self._sealed = sealed
        self._keys = keys
        self._index_key = index_key
        self._here = _PerThread()
        self._open = OpenRows()
        self._ciphers: dict[RecordId, RowCipher] = {}
        self._nonces = _draw_nonces()
        self._erased = {
            table: encode_row(dict(personal.erased)) for table, personal in sealed.items()
        }

    def write(self, table: str, key: bytes, row: Row) -> Written:
        """Write a row; of a destroyed record without what is personal."""
        sealed = self._sealed.get(table)
        if sealed is None:
            return self._open.write(table, key, row)
        open_fields = row.copy()
        personal = {name: open_fields.pop(name, was) for name, was in sealed.erased.items()}
        opened = encode_row(open_fields)
        length = _pack_length(len(opened))
        cipher = None if personal == sealed.erased else self._cipher(sealed.owner(key, row))
        if cipher is None:
            return Written(length + opened, row_digest(table, key, opened))
        plain = encode_row(personal)
        tag = cipher.tags.of(plain)
        closed = self._seal(cipher.cipher, plain, _bound_to(table, key))
        stored = b"".join((length, opened, tag, closed))
        return Written(stored, row_digest(table, key, opened, tag=tag))

    def read(self, table: str, key: bytes, stored: bytes) -> Row:
        """Read a row; of a destroyed record with what is personal as it was declared."""
        sealed = self._sealed.get(table)
        if sealed is None:
            return self._open.read(table, key, stored)
        opened, tag, closed = _split(stored)
        row: Row = orjson.loads(opened)
        cipher = self._cipher(sealed.owner(key, row)) if tag else None
        if cipher is None:
            row.update(orjson.loads(self._erased[table]))
            return row
        try:
            plain = self._unseal(cipher.cipher, closed, _bound_to(table, key))
        except InvalidTag:
            raise RowUnreadable(table) from None
        if cipher.tags.of(plain) != tag:
            raise RowUnreadable(table)
        row.update(orjson.loads(plain))
        return row

    def read_open(self, table: str, stored: bytes) -> Row:
        """Read what is open of a row."""
        row: Row = orjson.loads(_split(stored)[0] if table in self._sealed else stored)
        return row

    def digest(self, table: str, key: bytes, stored: bytes) -> int:
        """Give a stored row's part of the digest over all rows."""
        if table not in self._sealed:
            return self._open.digest(table, key, stored)
        opened, tag, _closed = _split(stored)
        return row_digest(table, key, opened, tag=tag)

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Have the keys at hand that these records have; raise `KeysNotHeld` where they are not."""
        missing = self._missing(record_ids)
        if missing:
            self._load(missing)
        if missing := self._missing(missing):
            raise KeysNotHeld(missing)

    def need_of(self, table: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Have the keys at hand that stored rows are read with."""
        sealed = self._sealed.get(table)
        if sealed is not None:
            parts = ((key, _split(stored)) for key, stored in rows)
            self.need(sealed.owner(key, orjson.loads(part[0])) for key, part in parts if part[1])

    @contextmanager
    def waiting(self, load: Load) -> Iterator[None]:
        """Let this thread wait for the keys that it lacks: they are loaded by this call."""
        self._here.load = load
        try:
            yield
        finally:
            self._here.load = None

    def opens(self, record_ids: Iterable[RecordId]) -> bool:
        """Say whether what is sealed of all these records can be read at once."""
        return all(isinstance(self._keys.key_of(record), bytes) for record in record_ids)

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load the keys of records. Raises `LogUnavailable`."""
        await self._keys.fetch(record_ids)

    def keys_of(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give what is at hand of the keys of records."""
        found = ((record, self._keys.key_of(record)) for record in record_ids)
        return {record: answer for record, answer in found if answer is not None}

    @property
    def index_key(self) -> bytes | None:
        """The key of the HMACs that stand for personal values in indexes."""
        return self._index_key

    def forget(self, record_ids: Collection[RecordId] | None) -> None:
        """Let go of what was made of destroyed keys; None: of any."""
        for record_id in list(self._ciphers) if record_ids is None else record_ids:
            self._ciphers.pop(record_id, None)

    def _missing(self, record_ids: Iterable[RecordId]) -> frozenset[RecordId]:
        key_of = self._keys.key_of
        return frozenset([record for record in record_ids if key_of(record) is None])

    def _load(self, missing: frozenset[RecordId]) -> None:
        if self._here.load is None:
            raise KeysNotHeld(missing)
        self._here.load(missing)

    def _seal(self, cipher: AESGCM, plain: bytes, bound_to: bytes) -> bytes:
        nonce = next(self._nonces)
        return nonce + cipher.encrypt(nonce, plain, bound_to)

    def _unseal(self, cipher: AESGCM, closed: bytes, bound_to: bytes) -> bytes:
        return cipher.decrypt(closed[:NONCE_BYTES], closed[NONCE_BYTES:], bound_to)

    def _cipher(self, record_id: RecordId) -> RowCipher | None:
        """Give what seals a record's rows, or None where its key is destroyed: asked each time."""
        answer, held = self._keys.key_of(record_id), self._ciphers.get(record_id)
        if held is not None and held.data_key == answer:
            return held
        if answer is None or answer is NoKey.NEVER_MADE:  # it may have been made since
            self._load(frozenset((record_id,)))
            answer = self._keys.key_of(record_id)
        data_key = _require_key(record_id, answer)
        if data_key is None:
            self._ciphers.pop(record_id, None)
            return None
        if len(self._ciphers) >= CIPHERS_HELD_MAX:
            self._ciphers.clear()
        made = self._ciphers[record_id] = row_cipher(data_key)
        if self._keys.key_of(record_id) != data_key:  # it was destroyed before we held this
            self._ciphers.pop(record_id, None)
        return made


class TaggedRows(SealedRows):
    """Keeps what is personal as it is beside its tag: for folds in memory, which end with them.

    The digests are those of sealed rows, and a destroyed key leaves nothing to read here either.
    """

    def _seal(self, cipher: AESGCM, plain: bytes, bound_to: bytes) -> bytes:  # noqa: ARG002
        return plain

    def _unseal(self, cipher: AESGCM, closed: bytes, bound_to: bytes) -> bytes:  # noqa: ARG002
        return closed


def _require_key(record_id: RecordId, answer: KeyAnswer | None) -> bytes | None:
    """Give the key of a record, or None where it is destroyed."""
    match answer:
        case None | NoKey.NEVER_MADE:
            raise KeysNotHeld(frozenset({record_id}))
        case NoKey.DESTROYED:
            return None
        case NoKey.DAMAGED:
            raise KeyDamaged(record_id)
        case data_key:
            return data_key


def encode_row(row: Row) -> bytes:
    """Write fields in their one canonical form."""
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def row_digest(table: str, key: bytes, opened: bytes, *, tag: bytes = b"") -> int:
    """Digest one row as the sum takes it: each part after its length, the tag if it has one."""
    pack = _pack_length
    told = b"".join((_framed_name(table), pack(len(key)), key, pack(len(opened)), opened))
    return _number(sha256(told + _TAG_LENGTH + tag if tag else told).digest(), "big")


@lru_cache(maxsize=TABLE_NAMES_MAX)
def _framed_name(table: str) -> bytes:
    name = table.encode()
    return len(name).to_bytes(4, "big") + name


def _draw_nonces() -> Iterator[bytes]:
    """Give random nonces for ever, each one once."""
    while True:
        drawn = os.urandom(NONCE_BYTES * NONCES_DRAWN)
        for start in range(0, len(drawn), NONCE_BYTES):
            yield drawn[start : start + NONCE_BYTES]


def _split(stored: bytes) -> tuple[bytes, bytes, bytes]:
    """Take a sealed table's row apart: open part, tag and the rest; the last two may be empty."""
    end = LENGTH_BYTES + _LENGTH.unpack_from(stored)[0]
    return stored[LENGTH_BYTES:end], stored[end : end + TAG_BYTES], stored[end + TAG_BYTES :]


def _bound_to(table: str, key: bytes) -> bytes:
    return table.encode() + b"/" + key
