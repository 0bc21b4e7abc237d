"""What the documents name exists, and README keeps its promise of being short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from replay.export import EXPORTED

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
README_LINES_MAX = 150


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < README_LINES_MAX


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_linked_file_exists(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_file_on_the_way_of_a_purchase_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_command_of_the_readme_is_one() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(
        re.findall(
            r"koseki ((?:dead-letters )?[a-z]+)(?= (?:(?:\d+|[A-Z]+) )?--(?:data|purpose)| demo|`)",
            text,
        )
    )
    assert {"up", "status", "verify", "dead-letters list", "dead-letters show", "demo"} <= named
    for command in named:
        shown = CliRunner().invoke(cli, [*command.split(), "--help"])
        assert shown.exit_code == 0, command
        assert "--json" in shown.output


def test_every_column_of_an_export_is_told() -> None:
    text = (ROOT / "docs" / "data-in-and-out.md").read_text()
    told = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", text, re.MULTILINE))
    columns = {table: tuple(re.findall(r"`([a-z_]+)`", said)) for table, said in told.items()}
    assert {t: c for t, c in columns.items() if t in EXPORTED} == {
        table: tuple(columns) for table, columns in EXPORTED.items()
    }


def test_every_make_target_of_the_readme_is_one() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named
    assert named <= targets
