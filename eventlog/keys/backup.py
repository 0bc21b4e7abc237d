"""Backups of wrapped keys: files of their own, with a named time after which each must be gone.

A key that is destroyed lives on in every backup made before, so erasure is complete only when those
are gone: each names the time in its file name and in its first line, is refused after it, and is
destroyed by the next backup into the folder. Lines are JSON; the last has the others' SHA-256.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import orjson

from domain.ids import RecordId
from eventlog.errors import LogError, WorkspaceKeyMissing
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import DESTROYED, KEYS_PER_REQUEST_MAX, WORKSPACE, KeyMessage
from eventlog.keys.port import Progress, silent
from eventlog.keys.workspace_key import WrappingBroken

KIND = "koseki.keys.v1"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"keys-\d{8}T\d{6}Z-until-(\d{8}T\d{6}Z)\.koseki")
_UNFINISHED = "keys.unfinished"
_MODE = 0o600


class KeyBackupRefused(LogError):
    """A file that is not a whole key backup of this workspace, or that should be gone."""

    def __init__(self, message: str) -> None:
        super().__init__("KEY_BACKUP_REFUSED", message)


class PutBack(NamedTuple):
    """What a restore did: keys that are there again, and those of which none may be."""

    restored: int
    destroyed: int


async def back_up_keys(
    store: JetStreamKeyStore,
    folder: Path,
    workspace: str,
    *,
    now: datetime,
    retention: timedelta,
    progress: Progress = silent,
) -> Path:
    """Write all wrapped keys to a file that only its owner may read."""
    until = (now + retention).astimezone(UTC).strftime(_TIME)
    head = {"kind": KIND, "workspace": workspace, "until": until}
    unfinished = _ensured(folder) / _UNFINISHED
    seal, count = sha256(), 0
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        block = orjson.dumps(head) + b"\n"
        async with aclosing(store.messages()) as pages:
            async for page in pages:
                block += b"".join(map(_line, page))
                file.write(block)
                seal.update(block)
                block = b""
                count += len(page)
                progress(count)
        file.write(orjson.dumps({"lines": count, "sha256": seal.hexdigest()}) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    made = now.astimezone(UTC).strftime(_TIME)
    return unfinished.rename(folder / f"keys-{made}-until-{until}.koseki")


async def restore_keys(
    store: JetStreamKeyStore,
    path: Path,
    workspace: str,
    *,
    now: datetime,
    progress: Progress = silent,
) -> PutBack:
    """Put back the keys of records that have none, and never one that was destroyed.

    Raises `KeyBackupRefused`, and `WorkspaceKeyMissing` where the workspace key is not the one.
    """
    _require_usable(path, workspace, now)
    destroyed = restored = 0
    for page in _pages(path):
        gone = [m.owner for m in page if m.is_tombstone]
        await store.destroy(gone)
        destroyed += len(gone)
    for page in _pages(path):
        try:
            restored += await store.put_back(page)
        except WrappingBroken:
            raise WorkspaceKeyMissing("the backup was made under another workspace key") from None
        progress(restored)
    return PutBack(restored, destroyed)


def destroy_expired(folder: Path, now: datetime) -> list[Path]:
    """Overwrite and remove every key backup whose time is up; name them."""
    expired = [
        path
        for path in sorted(folder.iterdir())
        if (name := _NAME.fullmatch(path.name)) and _time_of(name[1]) <= now
    ]
    for path in expired:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    return expired


def _ensured(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _require_usable(path: Path, workspace: str, now: datetime) -> None:
    """Check the whole file before anything of it is used."""
    seal, last, lines = sha256(), b"", -1
    with path.open("rb") as file:
        head = _parsed(path, first := file.readline())
        last = first
        for line in file:
            seal.update(last)
            last, lines = line, lines + 1
    end = _parsed(path, last)
    if end.get("sha256") != seal.hexdigest() or end.get("lines") != lines:
        raise KeyBackupRefused(f"{path.name} is damaged")
    if head.get("kind") != KIND or head.get("workspace") != workspace:
        raise KeyBackupRefused(f"{path.name} is not a key backup of workspace {workspace}")
    if _time_of(str(head["until"])) <= now:
        raise KeyBackupRefused(f"{path.name} should be gone since {head['until']}: destroy it")


def _pages(path: Path) -> Iterator[list[KeyMessage]]:
    page: list[KeyMessage] = []
    with path.open("rb") as file:
        file.readline()
        for line in file:
            fields = _parsed(path, line)
            if "sha256" in fields or fields["owner"] == WORKSPACE:
                continue
            mark, key = str(fields["mark"]), b64decode(str(fields["key"]))
            page.append(KeyMessage(RecordId(str(fields["owner"])), mark, 0, key))
            if len(page) == KEYS_PER_REQUEST_MAX:
                yield page
                page = []
    yield page


def _line(message: KeyMessage) -> bytes:
    key = b"" if message.mark == DESTROYED else message.body
    fields = {"owner": message.owner, "mark": message.mark, "key": b64encode(key).decode()}
    return orjson.dumps(fields) + b"\n"


def _parsed(path: Path, line: bytes) -> dict[str, object]:
    try:
        fields: dict[str, object] = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise KeyBackupRefused(f"{path.name} is not a key backup") from None
    return fields


def _time_of(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
