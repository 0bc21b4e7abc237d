"""Replays have no side effects: nothing that they are handed, or import, can write to NATS."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from types import FunctionType, ModuleType

import replay
from actors.router import CommandRouter
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.port import KeyStore
from eventlog.memory import MemoryEventLog
from eventlog.port import EventLog, LogReader
from eventlog.restoring import Restoration
from replay.sharing import StoredLog

CAN_WRITE = {
    EventLog,
    MemoryEventLog,
    JetStreamEventLog,
    Connection,
    KeyStore,
    Restoration,
    CommandRouter,
}
RESTORES = {"replay.backup", "replay.erased"}
"""Put a log back where there is none, and destroy again what was erased: no folds of a log."""


def modules() -> list[ModuleType]:
    names = (module.name for module in pkgutil.iter_modules(replay.__path__, "replay."))
    return [import_module(name) for name in names if name not in RESTORES]


def functions(module: ModuleType) -> Iterator[FunctionType]:
    for found in vars(module).values():
        if getattr(found, "__module__", None) != module.__name__:
            continue
        if isinstance(found, FunctionType):
            yield found
        elif inspect.isclass(found):
            yield from (f for f in vars(found).values() if isinstance(f, FunctionType))


def test_no_function_of_a_replay_takes_what_can_write() -> None:
    writing = {kind.__name__ for kind in CAN_WRITE}
    taken = {
        f"{module.__name__}.{function.__qualname__}"
        for module in modules()
        for function in functions(module)
        for annotation in function.__annotations__.values()
        if writing & set(re.findall(r"\w+", str(annotation)))
    }
    assert len(modules()) > 15
    assert taken == set()


def methods(protocol: type) -> set[str]:
    names = {name for kind in protocol.__mro__ for name in vars(kind)}
    return {name for name in names if not name.startswith("_")}


def test_a_log_to_read_from_cannot_be_written_to() -> None:
    assert "append" in methods(EventLog)
    writing = {"append", "publish", "request", "ensure_stream", "guard_by", "restore"}
    assert not writing & (methods(LogReader) | methods(StoredLog))
