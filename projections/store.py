"""The read side on disk: LMDB, one named database per table. The only file that imports `lmdb`.

One writer, any number of readers in other processes; a process can open a path once, so a writer
reads through its own `snapshot`. Rows, digest, checkpoint and D(r) are one transaction, synced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

import lmdb
import orjson

from projections.clusters import database_of, place_of, scan
from projections.errors import ReadSideError, ReadSideNotReady, ReadSideOutdated, StoreFailed
from projections.fold import LOCAL_TABLES, SCHEMA_VERSION, TABLES
from projections.generations import Mark, serving_folder, serving_mark
from projections.rows import OpenRows, RowCodec
from projections.stored_rows import StoredRows
from projections.tables import (
    Changes,
    Checkpoint,
    Transaction,
    read_checkpoint,
    write_checkpoint,
)

MAP_BYTES_MAX = 1 << 38
"""Address space, not disk: large enough that it never has to grow under a reader."""

READERS_MAX = 512
READ_TRIES_MAX = 3
OPEN_TRIES_MAX = 4
"""Of a reader that finds another generation in place of the one that it was about to open."""
META_BYTES = 2 * 4_096
"""What LMDB writes first, in one piece: a shorter file is still being made."""

_META = "meta"
_DATABASES = tuple(dict.fromkeys((_META, *map(database_of, (*TABLES, *LOCAL_TABLES)))))
_CHECKPOINT = b"checkpoint"
_SCHEMA = b"schema"
_Databases = dict[str, lmdb._Database]  # noqa: SLF001  # the library has no public name for it


class Snapshot(StoredRows):
    """The rows as of one checkpoint, for as long as `Store.snapshot` keeps it open."""

    def __init__(
        self,
        transaction: lmdb.Transaction,
        databases: _Databases,
        codec: RowCodec,
        *,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._transaction = transaction
        self._databases = databases
        self._codec = codec
        self._checkpoint = checkpoint or _stored_checkpoint(transaction, databases)

    def end(self) -> None:
        """Give the transaction back, and its place among the readers.

        LMDB's binding frees that with the transaction itself, which the traceback of an error in a
        read would keep: here it goes, whoever still has the snapshot.
        """
        self._transaction.abort()
        del self._transaction

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the rows stand at."""
        return self._checkpoint

    @property
    def codec(self) -> RowCodec:
        """How rows are stored."""
        return self._codec

    def load(self, table: str, key: bytes) -> bytes | None:
        """Read a row as stored."""
        try:
            stored = self._transaction.get(place_of(table, key), None, self._database(table))
        except lmdb.Error as error:
            raise _failed(error) from error
        return None if stored is None else bytes(stored)

    def load_many(self, table: str, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Read rows as stored, those that are there: one call, in which no other thread waits."""
        try:
            places = {place_of(table, key): key for key in keys}
            with self._transaction.cursor(db=self._database(table)) as cursor:
                found = cursor.getmulti(sorted(places))
                return {places[bytes(place)]: bytes(stored) for place, stored in found}
        except lmdb.Error as error:
            raise _failed(error) from error

    def scan_stored(
        self, table: str, prefix: bytes, *, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows as stored, in order of keys."""
        try:
            with self._transaction.cursor(db=self._database(table)) as cursor:
                yield from scan(cursor, table, prefix=prefix, start=start)
        except lmdb.Error as error:
            raise _failed(error) from error

    def _database(self, table: str) -> lmdb._Database:
        return self._databases[database_of(table)]


class _Writing(Snapshot):
    """A write transaction, as `tables.Transaction` wants it behind itself."""

    def write(self, changes: Changes) -> None:
        """Take changes into the transaction."""
        with _store_faults():
            for table, changed in changes.items():
                self._write(table, changed)

    def commit(self, changes: Changes, checkpoint: Checkpoint) -> None:
        """Store changes and checkpoint together, and what was written, durably."""
        self.write(changes)
        with _store_faults():
            stored = write_checkpoint(checkpoint)
            self._transaction.put(_CHECKPOINT, stored, db=self._databases[_META])
            self._transaction.commit()

    def abort(self) -> None:
        """End the transaction; nothing has changed."""
        self._transaction.abort()

    def _write(self, table: str, changed: Mapping[bytes, bytes | None]) -> None:
        placed = [(place_of(table, key), encoded) for key, encoded in changed.items()]
        with self._transaction.cursor(db=self._database(table)) as cursor:
            cursor.putmulti([(place, encoded) for place, encoded in placed if encoded is not None])
        for place, encoded in placed:
            if encoded is None:
                self._transaction.delete(place, db=self._database(table))


class _Opened:
    """An environment, and how many read it: it is closed when it was left and nobody does."""

    def __init__(
        self, environment: lmdb.Environment, databases: _Databases, mark: Mark = None
    ) -> None:
        self.environment = environment
        self.databases = databases
        self.mark = mark
        self.readers = 0
        self.is_left = False
        self._newest: tuple[int, Checkpoint] | None = None

    def checkpoint_of(self, reading: lmdb.Transaction) -> Checkpoint:
        """Give the checkpoint that a reading transaction sees, decoded once for each commit.

        Not for a writing one, whose number is that of a commit to come.
        """
        commit = reading.id()
        newest = self._newest
        if newest is None or newest[0] != commit:
            newest = self._newest = commit, _stored_checkpoint(reading, self.databases)
        return newest[1]

    def leave(self) -> None:
        """Close it, at once or with its last reader."""
        self.is_left = True
        if not self.readers:
            self.environment.close()


class Store:
    """A read side that is open for reading; it follows to another generation when one serves."""

    def __init__(self, opened: _Opened, codec: RowCodec, *, path: Path | None = None) -> None:
        self._opened = opened
        self._codec = codec
        self._path = path
        self._lock = Lock()

    @staticmethod
    def open_reader(path: Path, codec: RowCodec | None = None) -> Store:
        """Open what another process writes; `ReadSideNotReady` until it has been made.

        Without a codec only open rows can be read.
        """
        return Store(_open_serving(path), codec or OpenRows(), path=path)

    @staticmethod
    def open_beside(folder: Path, codec: RowCodec) -> Store:
        """Open a generation that a projector in another process writes, and stay with it."""
        return Store(_open_reading(folder, None), codec)

    @staticmethod
    def open_writer(path: Path, codec: RowCodec | None = None) -> WritableStore:
        """Open or make a read side for its projector; without a codec its rows are open."""
        return Store.open_generation(serving_folder(path), codec)

    @staticmethod
    def open_generation(folder: Path, codec: RowCodec | None = None) -> WritableStore:
        """Open or make one generation for its projector."""
        folder.mkdir(parents=True, exist_ok=True)
        environment = _open(folder, readonly=False)
        with _store_faults():
            environment.reader_check()
            with environment.begin(write=True) as transaction:
                databases = {
                    name: environment.open_db(name.encode(), txn=transaction) for name in _DATABASES
                }
                transaction.put(_SCHEMA, _schema(), db=databases[_META], overwrite=False)
        _require_schema(environment, databases)
        return WritableStore(_Opened(environment, databases), codec or OpenRows())

    @property
    def codec(self) -> RowCodec:
        """How its rows are stored."""
        return self._codec

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the rows stand at now: the same object while none is written."""
        with self._lock:
            opened = self._current()
            transaction = _begin_reading(opened.environment)
            try:
                return opened.checkpoint_of(transaction)
            finally:
                transaction.abort()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read the rows as of one checkpoint. Keep it short: the file grows while one is open."""
        opened = self._enter()
        try:
            snapshot = self._begin(opened)
            try:
                yield snapshot
            finally:
                snapshot.end()
        finally:
            self._exit(opened)

    def _begin(self, opened: _Opened) -> Snapshot:
        transaction = _begin_reading(opened.environment)
        now = opened.checkpoint_of(transaction)
        return Snapshot(transaction, opened.databases, self._codec, checkpoint=now)

    def close(self) -> None:
        """Close the read side; no snapshot or transaction may be open."""
        self._opened.environment.close()

    def _enter(self) -> _Opened:
        with self._lock:
            opened = self._current()
            opened.readers += 1
            return opened

    def _exit(self, opened: _Opened) -> None:
        with self._lock:
            opened.readers -= 1
            if opened.is_left and not opened.readers:
                opened.environment.close()

    def _current(self) -> _Opened:
        """Change over to the generation that serves now; stay where it cannot be opened yet."""
        path = self._path
        if path is not None and serving_mark(path) != self._opened.mark:
            with suppress(ReadSideError):
                fresh = _open_serving(path)
                self._opened.leave()
                self._opened = fresh
        return self._opened


class WritableStore(Store):
    """A read side that is open for its one projector."""

    def clear_readers(self) -> None:
        """Let go of what processes were reading that have ended, so that its pages are used."""
        self._opened.environment.reader_check()

    def begin(self) -> Transaction:
        """Start the one write transaction; commit or abort it on the same thread."""
        with _store_faults():
            begun = self._opened.environment.begin(write=True)
            return Transaction(_Writing(begun, self._opened.databases, self._codec))


def _open_serving(path: Path) -> _Opened:
    """Open the generation that serves for reading; another may take its place meanwhile."""
    for _ in range(OPEN_TRIES_MAX - 1):
        mark = serving_mark(path)
        try:
            return _open_reading(serving_folder(path), mark)
        except (ReadSideNotReady, StoreFailed):
            if serving_mark(path) == mark:
                raise
    return _open_reading(serving_folder(path), serving_mark(path))


def _open_reading(folder: Path, mark: Mark) -> _Opened:
    if not _has_meta_pages(folder / "data.mdb"):
        raise ReadSideNotReady("no projector has made this read side yet")
    environment = _open(folder, readonly=True)
    environment.reader_check()
    try:
        databases = {name: environment.open_db(name.encode(), create=False) for name in _DATABASES}
    except (lmdb.NotFoundError, lmdb.ReadonlyError):
        with environment.begin() as transaction:
            is_made = transaction.get(_META.encode()) is not None
        environment.close()
        if is_made:
            raise _outdated() from None
        raise ReadSideNotReady("a projector is making this read side") from None
    _require_schema(environment, databases)
    return _Opened(environment, databases, mark)


def _begin_reading(environment: lmdb.Environment) -> lmdb.Transaction:
    for _ in range(READ_TRIES_MAX):
        try:
            return environment.begin()
        except lmdb.MapResizedError:
            environment.set_mapsize(0)
        except lmdb.ReadersFullError:
            environment.reader_check()  # processes that were killed may have left theirs
        except lmdb.Error as error:
            raise _failed(error) from error
    raise StoreFailed("the read side goes on growing, or has too many readers")


def _has_meta_pages(file: Path) -> bool:
    return file.exists() and file.stat().st_size >= META_BYTES


def _open(path: Path, *, readonly: bool) -> lmdb.Environment:
    with _store_faults():
        return lmdb.open(
            str(path),
            map_size=MAP_BYTES_MAX,
            max_dbs=len(_DATABASES),
            max_readers=READERS_MAX,
            readonly=readonly,
            create=not readonly,
        )


@contextmanager
def _store_faults() -> Iterator[None]:
    """Give the library's errors as ours; their class says all that may be said."""
    try:
        yield
    except lmdb.Error as error:
        raise _failed(error) from error


def _failed(error: lmdb.Error) -> StoreFailed:
    return StoreFailed(f"the read side's database failed: {type(error).__name__}")


def _require_schema(environment: lmdb.Environment, databases: _Databases) -> None:
    with _begin_reading(environment) as transaction:
        stored = transaction.get(_SCHEMA, db=databases[_META])
    if stored != _schema():
        environment.close()
        raise _outdated()


def _outdated() -> ReadSideOutdated:
    return ReadSideOutdated("the rows were made by another schema; rebuild the read side")


def _schema() -> bytes:
    return orjson.dumps({"version": SCHEMA_VERSION, "tables": sorted(_DATABASES)})


def _stored_checkpoint(transaction: lmdb.Transaction, databases: _Databases) -> Checkpoint:
    try:
        stored = transaction.get(_CHECKPOINT, db=databases[_META])
    except lmdb.Error as error:
        raise _failed(error) from error
    return read_checkpoint(None if stored is None else bytes(stored))
