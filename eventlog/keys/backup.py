"""Backups of wrapped keys: files of their own, with a named time after which each must be gone.

A key that is destroyed lives on in every backup made before, so erasure is complete only when those
are gone: each names the time in its file name and in its first line, is refused after it, and is
destroyed by the next backup into the folder. Lines are JSON; the last has the others' SHA-256.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import NamedTuple

import orjson

from domain.ids import RecordId
from eventlog.errors import LogError, LogUnavailable, WorkspaceKeyMissing
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import DESTROYED, KEYS_PER_REQUEST_MAX, WORKSPACE, KeyMessage
from eventlog.keys.port import Progress, silent
from eventlog.keys.workspace_key import WrappingBroken

KIND = "koseki.keys.v1"
TRIES_MAX = 3
UNFINISHED_MAX = timedelta(hours=6)
"""After which a backup that is not finished is taken for one that was killed."""

_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(
    r"keys-(?P<made>\d{8}T\d{6}Z)-until-(?P<until>\d{8}T\d{6}Z)"
    r"(\.koseki|(?P<unfinished>\..+\.unfinished))"
)
_UNFINISHED_ONCE = "keys.unfinished"
"""What earlier releases wrote into."""


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
    """Write all wrapped keys to a file that only its owner may read.

    It is begun anew where a rotation ended meanwhile, so that no key of it needs the version that
    goes. Raises `LogUnavailable`, also where that happens each time, and `OSError`.
    """
    made, until = (time.astimezone(UTC).strftime(_TIME) for time in (now, now + retention))
    head = {"kind": KIND, "workspace": workspace, "until": until}
    place = _ensured(folder) / f"keys-{made}-until-{until}.koseki"
    for _ in range(TRIES_MAX):
        begins_at = await store.begins_at()
        unfinished = await _write(store, place, head, progress=progress)
        if await store.begins_at() == begins_at:
            return unfinished.replace(place)
        _destroy(unfinished)
    raise LogUnavailable("the workspace key was rotated each time that the keys were backed up")


async def restore_keys(
    store: JetStreamKeyStore,
    path: Path,
    workspace: str,
    *,
    now: datetime,
    once_checked: Callable[[], Awaitable[object]] | None = None,
    progress: Progress = silent,
) -> PutBack:
    """Put back the keys of records that have none, and never one that was destroyed.

    `once_checked` is done before anything is written, once the file is known to be whole and to
    open. Raises `KeyBackupRefused`, and `WorkspaceKeyMissing` where the workspace key is not the
    one.
    """
    _require_usable(path, workspace, now)
    await _require_opened(store, path)
    if once_checked is not None:
        await once_checked()
    destroyed = restored = 0
    for page in _pages(path):
        gone = [m.owner for m in page if m.is_tombstone]
        await store.destroy(gone)
        destroyed += len(gone)
    for page in _pages(path):
        restored += await store.put_back(page)
        progress(restored)
    return PutBack(restored, destroyed)


def destroy_expired(folder: Path, now: datetime) -> list[Path]:
    """Overwrite and remove every key backup whose time is up; name them.

    That of one which was never finished is up after `UNFINISHED_MAX`. Raises `OSError`.
    """
    expired = [path for path in sorted(folder.iterdir()) if _is_expired(path.name, now)]
    for path in expired:
        _destroy(path)
    return expired


def _is_expired(name: str, now: datetime) -> bool:
    parts = _NAME.fullmatch(name)
    if parts is None:
        return name == _UNFINISHED_ONCE
    is_given_up = parts["unfinished"] and _time_of(parts["made"]) + UNFINISHED_MAX <= now
    return bool(is_given_up) or _time_of(parts["until"]) <= now


def _destroy(path: Path) -> None:
    """Overwrite a file and remove it, unless another backup was faster."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
        path.unlink()


async def _write(
    store: JetStreamKeyStore, place: Path, head: Mapping[str, str], *, progress: Progress
) -> Path:
    """Write what will lie in a place to a file of its own beside it, or leave nothing there."""
    descriptor, unfinished = mkstemp(
        prefix=f"{place.stem}.", suffix=".unfinished", dir=place.parent
    )
    seal, count = sha256(), 0
    try:
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
    except BaseException:
        _destroy(Path(unfinished))
        raise
    return Path(unfinished)


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


async def _require_opened(store: JetStreamKeyStore, path: Path) -> None:
    for page in _pages(path):
        try:
            await store.unwrap(page)
        except WrappingBroken:
            raise WorkspaceKeyMissing("the backup was made under another workspace key") from None


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
