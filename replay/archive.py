"""A log kept in files: chunks of events as they were stored, each checkable with nothing else.

A chunk holds whole appends. It begins with one line of JSON (workspace, the revision and the log's
digest before it), then comes each event: the lengths of subject, headers and body (three big-endian
32-bit numbers) and their bytes. Three zeros, the last revision (64 bits), its digest and `D(r)` end
it, then the SHA-256 of all before. A chunk has its name only once it is whole and on disk.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.ids import Name
from eventlog.envelope import event_digest, extend_log_digest
from eventlog.incoming import Raw
from eventlog.port import ZERO_DIGEST
from eventlog.wire import header_block, parse_header_block

CHUNK_BYTES_MAX = 67_108_864
"""A chunk is closed at the first end of an append after so much."""

READ_BYTES = 1_048_576
_HEAD_BYTES_MAX = 1_024
_LENGTHS = struct.Struct(">III")
_END = struct.Struct(">IIIQ32s32s")
_SEAL_BYTES = 32
_CHUNK_NAME = re.compile(r"events-(\d{20})-(\d{20})\.koseki")
HexDigest = Field(pattern=r"^[0-9a-f]{64}$")
_UNFINISHED = "events.unfinished"


class ArchiveFault(Exception):
    """Files that are not a whole backup, or not of this log; the message names the file."""


class Mark(NamedTuple):
    """How far a log goes: a revision, the digest of its event, and D(r)."""

    revision: int = 0
    event_digest: bytes = ZERO_DIGEST
    log_digest: bytes = ZERO_DIGEST


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["koseki.events.v1"] = "koseki.events.v1"
    workspace: Name
    after_revision: int = Field(ge=0)
    event_digest: str = HexDigest
    log_digest: str = HexDigest

    @property
    def mark(self) -> Mark:
        """The mark that the chunk goes on from."""
        digests = bytes.fromhex(self.event_digest), bytes.fromhex(self.log_digest)
        return Mark(self.after_revision, *digests)


class Chunk(NamedTuple):
    """A file of events, by its name: those after one revision, through another."""

    path: Path
    after_revision: int
    last_revision: int


class Archive:
    """The chunks of one workspace's log in a folder, in order and without gaps."""

    def __init__(self, folder: Path, workspace: str) -> None:
        self.folder = folder
        self.workspace = workspace

    @classmethod
    def of(cls, folder: Path) -> Archive:
        """Open the archive in a folder, whichever workspace's it is; `ArchiveFault` if none."""
        first = next(iter(_listed(folder)), None)
        if first is None:
            raise ArchiveFault(f"{folder} holds no backup")
        with first.path.open("rb") as file:
            return cls(folder, _read_head(file, first).workspace)

    def chunks(self) -> list[Chunk]:
        """List the chunks; `ArchiveFault` where one is missing between them."""
        chunks = _listed(self.folder)
        expected = 0
        for chunk in chunks:
            if chunk.after_revision != expected:
                raise ArchiveFault(f"{chunk.path.name} should begin after revision {expected}")
            expected = chunk.last_revision
        return chunks

    def end(self) -> Mark:
        """Give how far the archive goes, its last chunk checked. Raises `ArchiveFault`."""
        chunks = self.chunks()
        return self.check(chunks[-1])[1] if chunks else Mark()

    def check(self, chunk: Chunk) -> tuple[Mark, Mark]:
        """Require that a chunk's bytes are those written; give the marks before and at its end."""
        digest = sha256()
        with chunk.path.open("rb") as file:
            head = _read_head(file, chunk)
            file.seek(0)
            left = chunk.path.stat().st_size - _SEAL_BYTES
            while left > 0 and (block := file.read(min(READ_BYTES, left))):
                digest.update(block)
                left -= len(block)
            seal = file.read(_SEAL_BYTES)
        if seal != digest.digest():
            raise ArchiveFault(f"{chunk.path.name} is damaged")
        if head.workspace != self.workspace:
            raise ArchiveFault(f"{chunk.path.name} is of workspace {head.workspace}")
        return head.mark, self.end_of(chunk)

    def end_of(self, chunk: Chunk) -> Mark:
        """Read the mark at a chunk's end, without a check of its bytes."""
        size = _END.size + _SEAL_BYTES
        if chunk.path.stat().st_size < size:
            raise ArchiveFault(f"{chunk.path.name} is damaged")
        with chunk.path.open("rb") as file:
            file.seek(-size, os.SEEK_END)
            *zeros, revision, event, log = _END.unpack(file.read(_END.size))
        if any(zeros) or revision != chunk.last_revision:
            raise ArchiveFault(f"{chunk.path.name} is damaged")
        return Mark(revision, event, log)

    def events(self, chunk: Chunk) -> Iterator[Raw]:
        """Yield a chunk's events. The caller has checked its bytes."""
        with chunk.path.open("rb") as file:
            revision = _read_head(file, chunk).after_revision
            while any(lengths := _LENGTHS.unpack(file.read(_LENGTHS.size))):
                revision += 1
                subject, headers, body = (file.read(length) for length in lengths)
                yield Raw(subject.decode(), revision, parse_header_block(headers), body)

    def require_whole(self) -> Mark:
        """Require every chunk as it was written, each after the one before; give the end.

        Raises `ArchiveFault`.
        """
        end = Mark()
        for _, mark in self._checked_chunks():
            end = mark
        return end

    def checked_events(self) -> Iterator[tuple[Raw, Mark]]:
        """Yield every event with the mark at it, everything checked on the way.

        Raises `ArchiveFault` for a damaged or missing chunk, and for a digest that is not right.
        """
        mark = Mark()
        for chunk, end in self._checked_chunks():
            for event in self.events(chunk):
                mark = advance(mark, event)
                yield event, mark
            if mark != end:
                raise ArchiveFault(f"{chunk.path.name} does not hold what its digest says")

    def _checked_chunks(self) -> Iterator[tuple[Chunk, Mark]]:
        mark = Mark()
        for chunk in self.chunks():
            before, end = self.check(chunk)
            if before != mark:
                raise ArchiveFault(f"{chunk.path.name} does not follow the chunk before it")
            yield chunk, end
            mark = end

    def writer(self, after: Mark) -> ChunkWriter:
        """Begin the chunk after a mark; what a killed writer left is written over."""
        return ChunkWriter(self.folder, self.workspace, after)


class ChunkWriter:
    """Write one chunk; it is there once `finish` has returned."""

    def __init__(self, folder: Path, workspace: str, after: Mark) -> None:
        self.mark = after
        self.size = 0
        self._folder = folder
        self._after = after.revision
        self._path = folder / _UNFINISHED
        self._file = self._path.open("wb")
        self._seal = sha256()
        head = _Head(
            workspace=workspace,
            after_revision=after.revision,
            event_digest=after.event_digest.hex(),
            log_digest=after.log_digest.hex(),
        )
        self._write(head.model_dump_json().encode() + b"\n")

    def add(self, events: Iterable[Raw]) -> None:
        """Write events that follow the last one; the last of them ends an append."""
        parts: list[bytes] = []
        for event in events:
            subject, headers = event.subject.encode(), header_block(event.headers)
            parts += _LENGTHS.pack(len(subject), len(headers), len(event.body)), subject, headers
            parts.append(event.body)
            self.mark = advance(self.mark, event)
        self._write(b"".join(parts))

    def finish(self) -> Mark:
        """Put the chunk on disk under its name; nothing, where nothing was added."""
        if self.mark.revision == self._after:
            self.drop()
            return self.mark
        self._write(_END.pack(0, 0, 0, *self.mark))
        self._file.write(self._seal.digest())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        name = f"events-{self._after + 1:020}-{self.mark.revision:020}.koseki"
        self._path.rename(self._folder / name)
        sync_folder(self._folder)
        return self.mark

    def drop(self) -> None:
        """Leave no trace of the chunk."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._seal.update(data)
        self.size += len(data)


def advance(mark: Mark, event: Raw) -> Mark:
    """Give the mark after one more event; `ArchiveFault` where that is not the next."""
    if event.revision != mark.revision + 1:
        raise ArchiveFault(f"revision {event.revision} stands where {mark.revision + 1} should")
    digest = event_digest(event.subject, event.headers, event.body)
    return Mark(event.revision, digest, extend_log_digest(mark.log_digest, event.revision, digest))


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed(folder: Path) -> list[Chunk]:
    if not folder.is_dir():
        return []
    named = ((path, _CHUNK_NAME.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [Chunk(path, int(name[1]) - 1, int(name[2])) for path, name in named if name]


def _read_head(file: BinaryIO, chunk: Chunk) -> _Head:
    try:
        head = _Head.model_validate_json(file.readline(_HEAD_BYTES_MAX))
    except ValidationError:
        raise ArchiveFault(f"{chunk.path.name} is not a chunk of a backup") from None
    if head.after_revision != chunk.after_revision:
        raise ArchiveFault(f"{chunk.path.name} holds other revisions than its name says")
    return head
