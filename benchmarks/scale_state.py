"""What `scale.py` has measured so far, kept beside the data so that a killed run goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

LOOK_SECONDS = 2.0
"""How often the memory of the process is looked at, and what was measured is written down."""

Fields = dict[str, Any]  # Any: numbers of several kinds, by name


class State:
    """The steps of one run: what each took, and which are done."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scale.json"
        self._lock = threading.Lock()

    def read(self) -> dict[str, Fields]:
        """Read every step that was begun."""
        if not self._file.exists():
            return {}
        found: dict[str, Fields] = json.loads(self._file.read_text(encoding="utf-8"))
        return found

    def is_done(self, step: str) -> bool:
        """Say whether a step has come to its end."""
        return bool(self.read().get(step, {}).get("done"))

    def is_begun(self, step: str) -> bool:
        """Say whether a step was begun."""
        return step in self.read()

    def note(self, step: str, **fields: float) -> None:
        """Note that a step has come to its end, and more of it."""
        self._write(step, {**fields, "done": True})

    @contextmanager
    def timing(self, step: str, progress: Callable[[], int]) -> Iterator[None]:
        """Time a step, with the memory that it takes; what a killed run took before is added."""
        before = self.read().get(step, {})
        begun, ended = perf_counter(), threading.Event()

        def note() -> None:
            seconds = before.get("seconds", 0.0) + perf_counter() - begun
            made = before.get("made", 0) + progress()
            memory = max(before.get("memory_bytes", 0), family_memory_bytes())
            peak = max(self.read().get(step, {}).get("memory_bytes", 0), memory)
            self._write(step, {"seconds": seconds, "made": made, "memory_bytes": peak})

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                note()

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            ended.set()
            watching.join()
            note()

    def _write(self, step: str, fields: Fields) -> None:
        with self._lock:
            steps = self.read()
            steps[step] = {**steps.get(step, {}), **fields}
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps(steps, indent=2) + "\n", encoding="utf-8")
            fresh.replace(self._file)


def own_memory_bytes(process: int | str = "self") -> int:
    """Give what a process holds of memory itself: pages of mapped files can be had back."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1_024
    return 0


def family_memory_bytes() -> int:
    """Give what this process and its children hold of memory themselves."""
    children = psutil.Process().children(recursive=True)
    with suppress(FileNotFoundError, ProcessLookupError):  # one may just have ended
        return own_memory_bytes() + sum(own_memory_bytes(child.pid) for child in children)
    return own_memory_bytes()
