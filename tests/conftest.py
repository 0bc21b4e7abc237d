"""How the tests share two cores: what runs one installation or one cluster stays in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
LONGEST_FIRST = ("e2e", "cluster")
"""Folders whose tests share servers: each a group of its own, begun before the many short tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what shares servers, and put the groups first."""
    for item in items:
        if (folder := _folder(item)) in LONGEST_FIRST:
            item.add_marker(pytest.mark.xdist_group(folder))
    items.sort(key=_rank)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def _rank(item: pytest.Item) -> int:
    folder = _folder(item)
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
