"""Where a read side lies on disk while another is made beside it, and which of them serves.

A read side's folder holds generations: the first in the folder itself, each rebuilt one in a folder
of its own. The file `serving` names the one to read, and is replaced in one step; `rebuilding`
names the one that is being made, from the request until it serves, whatever dies in between.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

SERVING = "serving"
REBUILDING = "rebuilding"
PREFIX = "generation-"
_FIRST_FILES = ("data.mdb", "lock.mdb")

Mark = tuple[int, int] | None
"""Changes whenever another generation serves."""


def serving_folder(path: Path) -> Path:
    """Give the folder of the generation that serves."""
    return _named(path, SERVING) or path


def serving_mark(path: Path) -> Mark:
    """Say, at the cost of one look, whether the same generation serves as before."""
    # For every read, and mostly there is no such file: a Path or an error would cost more.
    pointer = f"{path}/{SERVING}"
    if not os.access(pointer, os.F_OK):
        return None
    found = os.stat(pointer)  # noqa: PTH116
    return found.st_mtime_ns, found.st_ino


def rebuilding_folder(path: Path) -> Path | None:
    """Give the folder of the generation that is being made, if one is."""
    return _named(path, REBUILDING)


def request_rebuild(path: Path) -> Path:
    """Ask for a new generation, unless one is being made; give its folder."""
    known = rebuilding_folder(path)
    if known is not None:
        return known
    serving = serving_folder(path)
    number = 1 if serving == path else int(serving.name.removeprefix(PREFIX))
    folder = path / f"{PREFIX}{number + 1}"
    path.mkdir(parents=True, exist_ok=True)
    _write(path / REBUILDING, folder.name)
    return folder


def serve(path: Path, folder: Path) -> None:
    """Let a generation serve from now on; readers see the one before or this one."""
    _write(path / SERVING, folder.name)
    (path / REBUILDING).unlink(missing_ok=True)


def clear_unserved(path: Path) -> None:
    """Remove what neither serves nor is being made; whoever reads it still goes on doing so."""
    serving, rebuilding = serving_folder(path), rebuilding_folder(path)
    if rebuilding == serving:  # died between the two steps of `serve`
        (path / REBUILDING).unlink(missing_ok=True)
    for folder in path.glob(f"{PREFIX}*"):
        if folder not in (serving, rebuilding):
            shutil.rmtree(folder, ignore_errors=True)
    if serving != path:
        for name in _FIRST_FILES:
            (path / name).unlink(missing_ok=True)


def _named(path: Path, pointer: str) -> Path | None:
    with suppress(FileNotFoundError):
        name = (path / pointer).read_text().strip()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).isdecimal():
            return path / name
    return None


def _write(pointer: Path, name: str) -> None:
    """Replace a pointer, durably."""
    fresh = pointer.with_name(f"{pointer.name}.{os.getpid()}.new")
    with fresh.open("w") as file:
        file.write(name)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(pointer)
    descriptor = os.open(pointer.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
