"""Sealed logs for tests: a key store, a ring over it, and the bytes that rest on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from domain.ids import RecordId, Stream
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.workspace_key import WorkspaceKeys, new_workspace_key

LOOKS_MAX = 20


class Source:
    """A workspace key's source that a test can change."""

    def __init__(self) -> None:
        self.keys = new_workspace_key()

    def __call__(self) -> WorkspaceKeys:
        return self.keys

    def renew(self) -> None:
        self.keys = self.keys.with_next()


async def sealed_log(
    connection: Connection, workspace: str, source: Source
) -> tuple[JetStreamEventLog, KeyRing]:
    """Open a sealed log as a process of its own would."""
    store = JetStreamKeyStore(connection, workspace, source=source)
    await store.open()
    ring = KeyRing(store)
    log = JetStreamEventLog(connection, workspace, keys=ring)
    await log.ensure_stream()
    return log, ring


def record_id(stream: Stream) -> RecordId:
    """Name the record of a stream."""
    return RecordId(stream.key)


def forms(value: str) -> Iterator[bytes]:
    """Give the bytes of a text in each encoding that something may have written it in."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        yield value.encode(encoding)


def files_with(folder: Path, wanted: bytes) -> list[Path]:
    """Name the files below a folder that hold these bytes.

    A server that runs renames files as they are read, and what moves behind the reader would be
    missed: the look is made anew until every file that it found stood still for it.
    """
    for _ in range(LOOKS_MAX):
        with suppress(FileNotFoundError):
            return [path for path in folder.rglob("*") if _holds(path, wanted)]
    raise TimeoutError(f"the files below {folder} do not stand still")


def _holds(path: Path, wanted: bytes) -> bool:
    """Raise `FileNotFoundError` where it has moved."""
    return S_ISREG(path.stat().st_mode) and wanted in path.read_bytes()
