"""What the operating system is asked for: children that end with their parent, and their end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
TERMINATE_SECONDS_MAX = 5.0


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


def descendants(*, except_for: Iterable[int]) -> list[psutil.Process]:
    """List all processes below this one, but not these nor what is below them."""
    spared = set(except_for)
    children = [child for child in psutil.Process().children() if child.pid not in spared]
    below = [grandchild for child in children for grandchild in _below(child)]
    return [*children, *below]


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def end_all(processes: Iterable[psutil.Process]) -> None:
    """End processes, by force after `TERMINATE_SECONDS_MAX`."""
    waiting = list(processes)
    for process in waiting:
        with suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + TERMINATE_SECONDS_MAX
    _gone, alive = psutil.wait_procs(waiting, timeout=max(0.0, deadline - time.monotonic()))
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=TERMINATE_SECONDS_MAX)
