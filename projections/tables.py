"""Named tables of rows, changed in one transaction, and the digest over all rows (R17).

Folds write to `Tables`, views read from `ReadTables`. A `Transaction` keeps the rows that it
touches decoded, so that each is read and written once. Behind it is a `Backing`: `memory.py`, or
LMDB in `store.py`. Rows are stored as their codec has it (`rows.py`). Local values, and the rows of
tables named `~...`, a replica makes for itself. The digest is the sum, mod 2^256, of SHA-256s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

import orjson

from domain.ids import RecordId
from eventlog.port import ZERO_DIGEST
from projections.key_order import after, merged
from projections.rows import Row, RowCodec
from projections.sets import SetChange, read_set, write_set
from projections.touched import TouchedRows

Changes = Mapping[str, Mapping[bytes, bytes | None]]
"""By table and key, in order of keys: the row as it is to be stored, or None to delete it."""

DIGEST_MODULUS = 1 << 256

_THERE: Row = {}
"""Stands for a row that was not read."""

LOCAL_MARK = "~"
"""Begins the name of a table whose rows are a replica's own matter, and in no digest."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the rows have come: the last event folded, its digest, D(revision), and theirs."""

    revision: int = 0
    event_digest: bytes = ZERO_DIGEST
    log_digest: bytes = ZERO_DIGEST
    rows_digest: bytes = ZERO_DIGEST


def write_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Write a checkpoint as it is stored."""
    return orjson.dumps(
        {
            "revision": checkpoint.revision,
            "event_digest": checkpoint.event_digest.hex(),
            "log_digest": checkpoint.log_digest.hex(),
            "rows_digest": checkpoint.rows_digest.hex(),
        }
    )


def read_checkpoint(stored: bytes | None) -> Checkpoint:
    """Read what `write_checkpoint` wrote; the beginning where nothing was stored."""
    if stored is None:
        return Checkpoint()
    fields = orjson.loads(stored)
    return Checkpoint(
        revision=fields["revision"],
        event_digest=bytes.fromhex(fields["event_digest"]),
        log_digest=bytes.fromhex(fields["log_digest"]),
        rows_digest=bytes.fromhex(fields["rows_digest"]),
    )


class ReadTables(Protocol):
    """The rows as of one checkpoint."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the rows stand at."""

    def get(self, table: str, key: bytes) -> Row | None:
        """Read a row."""

    def scan(self, table: str, prefix: bytes, *, start: bytes = b"") -> Iterator[tuple[bytes, Row]]:
        """Yield the rows whose key starts with a prefix, from a key on, in order of keys."""

    def scan_open(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, Row]]:
        """Yield as `scan` does, but of each row at least what is open; needs no key."""

    def load(self, table: str, key: bytes) -> bytes | None:
        """Read what is stored: a local value, or a row as its codec wrote it."""

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Have the keys of all these records at hand; raise `KeysNotHeld` where they are not."""

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield local values whose key starts with a prefix, from a key on, in order of keys."""

    @property
    def codec(self) -> RowCodec:
        """How rows are stored."""


class StoredTables(ReadTables, Protocol):
    """The rows as of one checkpoint, with nothing changed of them."""

    def load_many(self, table: str, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Read rows as stored, those that are there."""


class Tables(ReadTables, Protocol):
    """A transaction over the rows. A row that was read may be changed in place, then put back."""

    def put(self, table: str, key: bytes, row: Row) -> None:
        """Write a row."""

    def add(self, table: str, key: bytes, row: Row) -> None:
        """Write a row that is surely not there yet."""

    def delete(self, table: str, key: bytes) -> None:
        """Remove a row."""

    def store(self, table: str, key: bytes, value: bytes | None) -> None:
        """Write a local value, or remove it."""

    def amend(self, table: str, key: bytes, change: SetChange) -> None:
        """Change a set that is a local value."""

    def keys_from(self, table: str, start: bytes) -> Iterator[bytes]:
        """Yield the keys from one on, in order, while the table is not changed."""

    def make_room(self) -> None:
        """Keep what was changed so far, and hold none of it: for who changes very many rows.

        A row that was read before is not to be changed in place any more.
        """


class Backing(Protocol):
    """What a transaction reads through to, and hands its changes to."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint before the transaction."""

    @property
    def codec(self) -> RowCodec:
        """How rows are stored."""

    def load(self, table: str, key: bytes) -> bytes | None:
        """Read a row as stored."""

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows as stored, in order of keys."""

    def write(self, changes: Changes) -> None:
        """Take changes into the transaction; it reads them from here from now on."""

    def commit(self, changes: Changes, checkpoint: Checkpoint) -> None:
        """Store changes and checkpoint together, and what was written, durably."""

    def abort(self) -> None:
        """End the transaction; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a transaction has come to, for another one over the same rows to store."""

    changes: Changes
    difference: int
    """That the changes make to the digest over all rows."""
    read: Mapping[str, Collection[bytes]]
    """By table the keys of the rows that were looked at, and are as they were."""
    local: Changes
    """Local values."""

    def is_apart(self, other: Part) -> bool:
        """Say whether neither has looked at what the other changed."""
        return not (_meet(self, other) or _meet(other, self))


def _meet(one: Part, other: Part) -> bool:
    """Say whether something changed that the other one touched."""
    return any(
        not changed.keys().isdisjoint(touched)
        for table, changed in one.changes.items()
        for touched in (other.changes.get(table, ()), other.read.get(table, ()))
    )


class Transaction:
    """Rows in the middle of a change; nothing is visible to others before `commit`."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._codec = backing.codec
        self._difference = 0
        self._touched: defaultdict[str, TouchedRows] = defaultdict(TouchedRows)
        self._local: defaultdict[str, dict[bytes, bytes | None]] = defaultdict(dict)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint before this transaction."""
        return self._backing.checkpoint

    def get(self, table: str, key: bytes) -> Row | None:
        """Read a row, as this transaction has left it."""
        touched = self._touched[table]
        rows = touched.rows
        if key in rows:
            return rows[key]
        encoded = self._backing.load(table, key)
        row = None if encoded is None else self._codec.read(table, key, encoded)
        touched.stored[key] = encoded
        rows[key] = row
        return row

    def put(self, table: str, key: bytes, row: Row) -> None:
        """Write a row."""
        self._change(table, key, row)

    def add(self, table: str, key: bytes, row: Row) -> None:
        """Write a row that is surely not there yet: it is not looked for."""
        touched = self._touched[table]
        if key not in touched.rows:
            touched.stored[key] = None
        touched.change(key, row)

    def delete(self, table: str, key: bytes) -> None:
        """Remove a row."""
        self._change(table, key, None)

    def scan(self, table: str, prefix: bytes, *, start: bytes = b"") -> Iterator[tuple[bytes, Row]]:
        """Yield the rows whose key starts with a prefix, as this transaction has left them."""
        for key, encoded, row in self._found(table, prefix, start):
            if row is not None:
                yield key, row
            elif encoded is not None:
                yield key, self._codec.read(table, key, encoded)

    def scan_open(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, Row]]:
        """Yield as `scan` does, but of each row at least what is open; needs no key."""
        for key, encoded, row in self._found(table, prefix, start):
            if row is not None:
                yield key, row
            elif encoded is not None:
                yield key, self._codec.read_open(table, encoded)

    def keys_from(self, table: str, start: bytes) -> Iterator[bytes]:
        """Yield the keys from one on: unlike a scan it does not list first what was changed."""
        touched = self._touched[table]
        rows, changed = touched.rows, touched.changed_from(start)
        following = next(changed, None)
        for key, _ in self._backing.scan_stored(table, b"", start=start):
            while following is not None and following < key:
                if rows[following] is not None:
                    yield following
                following = next(changed, None)
            if rows.get(key, _THERE) is not None:
                yield key
            if following == key:
                following = next(changed, None)
        while following is not None:
            if rows[following] is not None:
                yield following
            following = next(changed, None)

    def _found(
        self, table: str, prefix: bytes, start: bytes
    ) -> Iterator[tuple[bytes, bytes | None, Row | None]]:
        """Yield keys in order, each with its row as stored, or as it was left here."""
        touched = self._touched[table]
        rows, ordered = touched.rows, touched.in_order()
        first = bisect_left(ordered, max(prefix, start))
        changed = ordered[first : bisect_left(ordered, after(prefix))]
        stored = self._backing.scan_stored(table, prefix, start=start)
        for key, encoded in merged(stored, changed):
            yield (key, None, rows[key]) if key in rows else (key, encoded, None)

    def load(self, table: str, key: bytes) -> bytes | None:
        """Read a local value, as this transaction has left it."""
        local = self._local[table]
        return local[key] if key in local else self._backing.load(table, key)

    def store(self, table: str, key: bytes, value: bytes | None) -> None:
        """Write a local value, or remove it."""
        self._local[table][key] = value

    def amend(self, table: str, key: bytes, change: SetChange) -> None:
        """Change a set that is a local value."""
        members = change.applied_to(read_set(self.load(table, key)))
        self.store(table, key, write_set(members))

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield local values, as this transaction has left them."""
        local, first = self._local[table], max(prefix, start)
        mine = sorted(k for k in local if k.startswith(prefix) and k >= first)
        stored = self._backing.scan_stored(table, prefix, start=start)
        for key, before in merged(stored, mine):
            value = local.get(key, before)
            if value is not None:
                yield key, value

    @property
    def codec(self) -> RowCodec:
        """How rows are stored."""
        return self._codec

    def need(self, record_ids: Iterable[RecordId]) -> None:
        """Raise `KeysNotHeld` for all of these records at once, if keys are wanting."""
        self._codec.need(record_ids)

    def make_room(self) -> None:
        """Keep what was changed so far, and hold none of it: for who changes very many rows."""
        self._backing.write(self._taken())

    def take_out(self, table: str, key: bytes) -> Row | None:
        """Give a row as it was left here, and leave it as it is stored."""
        row = self.get(table, key)
        self._touched[table].forget(key)
        return row

    def hand_over(self) -> Part:
        """End with what was come to, and store nothing."""
        seen = {table: touched.rows.keys() for table, touched in self._touched.items()}
        local = {table: dict(values) for table, values in self._local.items() if values}
        self._local.clear()
        changes = self._taken()
        read = {table: tuple(keys - changes.get(table, {}).keys()) for table, keys in seen.items()}
        return Part(changes, self._difference, read, local)

    def take_over(self, part: Part) -> None:
        """Store what another one has come to, of rows that this one has not touched."""
        self._backing.write(part.changes)
        self._difference += part.difference

    def commit(self, *, revision: int, event_digest: bytes, log_digest: bytes) -> Checkpoint:
        """Store the rows with the checkpoint that they stand at now."""
        changes = self._taken()
        total = int.from_bytes(self.checkpoint.rows_digest, "big") + self._difference
        rows_digest = (total % DIGEST_MODULUS).to_bytes(32, "big")
        checkpoint = Checkpoint(revision, event_digest, log_digest, rows_digest)
        self._backing.commit(changes, checkpoint)
        return checkpoint

    def _taken(self) -> Changes:
        """Give what is to be stored, with its part of the digest added up, and let go of it."""
        changes: dict[str, dict[bytes, bytes | None]] = {}
        for table, touched in sorted(self._touched.items(), key=itemgetter(0)):
            if not touched.changed:
                continue
            changed, difference = self._encode(table, touched)
            changes[table] = changed
            self._difference += difference
        changes.update({table: dict(sorted(local.items())) for table, local in self._local.items()})
        self._touched.clear()
        self._local.clear()
        return changes

    def abort(self) -> None:
        """Forget everything."""
        self._backing.abort()

    def _change(self, table: str, key: bytes, row: Row | None) -> None:
        touched = self._touched[table]
        if key not in touched.rows:
            touched.stored[key] = self._backing.load(table, key)
        touched.change(key, row)

    def _encode(self, table: str, touched: TouchedRows) -> tuple[dict[bytes, bytes | None], int]:
        if table.startswith(LOCAL_MARK):
            return touched.encoded(), 0
        rows, stored = touched.rows, touched.stored
        write, digest = self._codec.write, self._codec.digest
        changes: dict[bytes, bytes | None] = {}
        difference = 0
        for key in sorted(touched.changed):
            row, before = rows[key], stored[key]
            removed = 0 if before is None else digest(table, key, before)
            if row is None:
                if before is not None:
                    changes[key] = None
                    difference -= removed
                continue
            encoded, added = write(table, key, row)
            if added != removed:
                changes[key] = encoded
                difference += added - removed
        return changes, difference
