"""Processes that fold parts of a projector's large batches (`parts.py`), each over a socket.

`python -m projections.part_process FD` is such a process. It reads the rows of one generation with
the keys that come with each task, writes nothing, asks nobody, and keeps nothing of a task. What it
folds next it is given as soon as it has nothing to do, and reads it while others are busy.
It is started when first there is a large batch, is started anew when it ended, and ends with the
projector's end of its socket.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from struct import pack
from typing import NamedTuple

from eventlog.port import Entry
from projections.dealing import Division, divide
from projections.errors import PartRefused
from projections.fold import SEALED, collector_at_rest
from projections.packing import unpack
from projections.parts import Dealt, Folded, Task, deal_out, fold_dealt, fold_task, written
from projections.row_keys import GivenKeys, in_thread, with_keys
from projections.rows import OpenRows, RowCodec, SealedRows
from projections.store import Store, WritableStore
from projections.tables import Checkpoint

PROCESSES_MAX = 4
PART_SECONDS_MAX = 120.0
"""That a part may take; its process is ended then, and the batch folded whole."""

RESTART_SECONDS = 5.0
SHARING_MIN = 2
"""Processes, between whom it is worth to deal a batch out; the projector reads and stores."""

NICENESS = 10
"""So much the processes stand back behind who decodes events for them, and who serves customers."""

_READY = b"ready"
_SHARE = b"share"
"""Comes before packed events; what comes without it is a task."""

_SEND_TIMEOUT = pack("ll", int(PART_SECONDS_MAX), 0)
"""As the C library has it; a process that is stopped takes nothing."""


class Place(NamedTuple):
    """Which rows a process reads, and the key of their indexes over traits."""

    folder: Path
    index_key: bytes | None


class PartProcess:
    """One process, as the projector sees it."""

    def __init__(self, place: Place) -> None:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603
        self._connection = Connection(ours.detach())
        self._is_ready = False
        self._given: bytes | None = None
        self._next: bytes | None = None
        self._send(pickle.dumps(place))

    @property
    def is_ready(self) -> bool:
        """Whether it can take a task."""
        with suppress(OSError, EOFError):
            if not self._is_ready and self._connection.poll():
                self._is_ready = self._connection.recv_bytes() == _READY
        return self._is_ready

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def expect(self, share: bytes) -> None:
        """Say which events it is to fold next, so that it has them as soon as it is idle."""
        self._next = share

    def begin(self, share: bytes, task: bytes) -> None:
        """Send a task, and its events unless it has them. Raises `PartRefused`."""
        self._give(share)
        self._send(task)

    def result(self) -> Folded:
        """Wait for what it came to, and give it what is next. Raises `PartRefused`."""
        answer = pickle.loads(self._receive())  # noqa: S301  # from our own process
        if self._next is not None:
            self._give(self._next)
        if isinstance(answer, Folded):
            return answer
        raise PartRefused(f"another process refused a part: {answer}")

    def end(self) -> None:
        """Kill it: it keeps nothing. Whoever waits for it waits no more."""
        self._is_ready = False
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, when nobody waits for it any more."""
        self.end()
        self._connection.close()

    def _give(self, share: bytes) -> None:
        if share is not self._given:
            self._send(_SHARE)
            self._send(share)
            self._given = share

    def _receive(self) -> bytes:
        try:
            if self._connection.poll(PART_SECONDS_MAX):
                return self._connection.recv_bytes()
        except (OSError, EOFError):
            self.end()
            raise PartRefused("a process that folds parts ended") from None
        self.end()
        raise PartRefused(f"a part took more than {PART_SECONDS_MAX} s")

    def _send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError:
            self.end()
            raise PartRefused("a process that folds parts ended") from None


class PartProcesses:
    """Folds large batches of one projector with other processes."""

    def __init__(self, store: WritableStore, folder: Path, number: int) -> None:
        self._store = store
        self._place = Place(folder, store.codec.index_key)
        self._number = min(number, PROCESSES_MAX) if number >= SHARING_MIN else 0
        self._processes: list[PartProcess] = []
        self._started_at = 0.0
        self._is_folding = False

    def are_ready(self) -> bool:
        """Start those that are not there, and say whether all can take a task."""
        self._keep_started()
        return len(self._ready()) == self._number

    def divide(self, entries: Sequence[Entry]) -> Division | None:
        """Divide a batch among those that can take a task, also while they fold another one.

        None where it is to stay whole. It takes a moment in which the loop does nothing else.
        """
        if not self._is_folding:
            self._keep_started()
        processes = self._ready()
        if len(processes) < SHARING_MIN:
            return None
        with self._store.snapshot() as before:
            division = divide(before, entries, len(processes))
        if division is not None:
            for process, share in zip(processes, division.shares, strict=True):
                process.expect(share)
        return division

    async def fold(self, division: Division, thread: Executor) -> Checkpoint | None:
        """Fold a batch, and store it in a thread; None, and nothing is stored, if it stays whole.

        It is dealt out here, where no event is decoded meanwhile: all wait for their parts.
        """
        self._keep_started()
        folders = self._ready()[: len(division.shares)]
        if len(folders) < len(division.shares):
            return None
        dealt = deal_out(self._store, division)
        if dealt is None:
            return None

        async def write() -> Dealt:
            return written(self._store, dealt)

        tasks = await with_keys(self._store.codec, write)
        self._is_folding = True
        try:
            work = partial(fold_dealt, self._store, tasks, folders)
            return await in_thread(work, self._store.codec, executor=thread)
        finally:
            self._is_folding = False

    def end(self) -> None:
        """Kill the processes, so that no part is waited for."""
        for process in self._processes:
            process.end()

    def close(self) -> None:
        """End the processes, when no batch is being folded any more."""
        for process in self._processes:
            process.close()
        self._processes.clear()

    def _ready(self) -> list[PartProcess]:
        return [process for process in self._processes if process.is_ready]

    def _keep_started(self) -> None:
        for process in [process for process in self._processes if process.has_ended]:
            self._processes.remove(process)
            process.close()
            self._store.clear_readers()
        now = time.monotonic()
        if len(self._processes) < self._number and now - self._started_at >= RESTART_SECONDS:
            self._started_at = now
            with suppress(PartRefused):
                while len(self._processes) < self._number:
                    self._processes.append(PartProcess(self._place))


def serve(connection: Connection) -> None:
    """Fold the shares that come, each by the task that follows, until nobody is there any more."""
    place: Place = pickle.loads(connection.recv_bytes())  # noqa: S301  # from our parent
    connection.send_bytes(_READY)
    share: Sequence[Entry] = ()
    while True:
        message = connection.recv_bytes()
        if message == _SHARE:
            with collector_at_rest():
                share = unpack(connection.recv_bytes())
        else:
            connection.send_bytes(_answer_to(place, share, message))
            share = ()
        del message  # with its keys


def _answer_to(place: Place, share: Sequence[Entry], message: bytes) -> bytes:
    """Fold the task of a message, and let go of it with all its keys."""
    with collector_at_rest():
        task: Task = pickle.loads(message)  # noqa: S301  # as above
        return pickle.dumps(_answer(place, share, task))


def _answer(place: Place, share: Sequence[Entry], task: Task) -> Folded | str:
    store = Store.open_beside(place.folder, _codec(place, task))
    try:
        with store.snapshot() as before:
            return fold_task(before, share, task)
    except Exception as error:  # noqa: BLE001  # whoever asked folds the batch whole, and sees it
        return type(error).__name__  # the class alone: a text may hold what the person wrote
    finally:
        store.close()


def _codec(place: Place, task: Task) -> RowCodec:
    """Give a way to store rows that is let go of with the task: no key is kept."""
    if task.keys is None:
        return OpenRows()
    return SealedRows(SEALED, GivenKeys(task.keys), index_key=place.index_key)


def main(arguments: Sequence[str]) -> None:
    """Serve the socket with the number that is given."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the projector ends it
    os.nice(NICENESS)
    with suppress(EOFError, OSError):
        serve(Connection(int(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
