"""What the operating system is asked for: children that end with their parent, and their end."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
TERMINATE_SECONDS_MAX = 5.0
ENDING_PASSES_MAX = 5
HOLD_SECONDS_MAX = 2.0
_POLL_SECONDS = 0.05


def cores() -> int:
    """Say how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Ask for SIGTERM when the parent of this process ends; only Linux can."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ended, so that none is lost sight of."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hold(path: Path) -> int | None:
    """Lock a file until this process ends or closes it; None if another one holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + HOLD_SECONDS_MAX  # Whoever only looks holds it for a moment.
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            os.close(descriptor)
            return None
        time.sleep(_POLL_SECONDS)
    return descriptor


def is_held(path: Path) -> bool:
    """Say whether a process that lives holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def children_named(pid: int, names: frozenset[str]) -> dict[str, psutil.Process]:
    """Find the children of a process that have these names."""
    with suppress(psutil.Error):
        return {c.name(): c for c in psutil.Process(pid).children() if c.name() in names}
    return {}


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs; one that ended and was not waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_descendants(*, except_for: Iterable[int] = (), grace_seconds: float = 0.0) -> None:
    """End all processes below this one, but not these nor what is below them.

    In passes: a raylet that sees its workers end starts others until it ends itself, and who loses
    its parent while they are listed is found only the next time.
    """
    spared = set(except_for)
    for _pass in range(ENDING_PASSES_MAX):
        left = _descendants(spared)
        if not left:
            break
        end_all(left, grace_seconds=grace_seconds)


def _descendants(spared: set[int]) -> list[psutil.Process]:
    children = [child for child in psutil.Process().children() if child.pid not in spared]
    below = [grandchild for child in children for grandchild in _below(child)]
    return [*children, *below]


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def end_all(processes: Iterable[psutil.Process], *, grace_seconds: float) -> None:
    """End processes, by force after the grace."""
    alive = list(processes)
    if grace_seconds:
        for process in alive:
            with suppress(psutil.Error):
                process.terminate()
        _gone, alive = psutil.wait_procs(alive, timeout=grace_seconds)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=TERMINATE_SECONDS_MAX)
