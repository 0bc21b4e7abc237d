"""What `pyproject.toml` says, for tests of the repository itself."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from domain.event import Event

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(*, extra: str | None = None) -> dict[str, Requirement]:
    """Give the declared dependencies by canonical name; those of an extra if one is named."""
    project = PYPROJECT["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(item.name): item for item in parsed}


def requirement(name: str, *, extra: str | None = None) -> Requirement:
    """Find one declared dependency, or raise `KeyError`."""
    return requirements(extra=extra)[name]


def event_classes() -> set[type[Event]]:
    """Give every class of event that can stand in a log; one that others refine cannot."""
    for file in (ROOT / "domain").glob("*_events.py"):
        importlib.import_module(f"domain.{file.stem}")
    found: set[type[Event]] = set()
    pending: list[type[Event]] = [Event]
    while pending:
        refined = pending.pop().__subclasses__()
        for cls in refined:
            if cls.__module__.startswith("domain."):
                pending.append(cls)
                if not cls.__subclasses__():
                    found.add(cls)
    return found
