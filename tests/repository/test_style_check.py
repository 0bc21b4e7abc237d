"""The style check finds what it is there for, and nothing else."""

from pathlib import Path

import pytest

from scripts.check_style import check_tree
from tests.support.project import ROOT

OPENING = '"""What it is for."""\n'


def messages(root: Path) -> list[str]:
    return [breach.message for breach in check_tree(root)]


def put(root: Path, path: str, *, text: str) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return root


def function(*, parameters: str = "", lines: int = 2, name: str = "act") -> str:
    return f"def {name}({parameters}):\n" + "    pass\n" * (lines - 1)


def test_this_repository_keeps_the_limits() -> None:
    assert [str(breach) for breach in check_tree(ROOT)] == []


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("domain/long.py", OPENING + "A = 1\n" * 400, "the file has 401 lines, at most 400"),
        ("tests/test_long.py", "A = 1\n" * 501, "the file has 501 lines, at most 500"),
        ("domain/bare.py", "A = 1\n", "the module does not open with what it is for"),
        (
            "domain/wordy.py",
            '"""' + "Words.\n" * 7 + '"""\n',
            "the opening has 7 lines, at most 6",
        ),
        ("domain/one.py", OPENING + function(lines=51), "act has 51 lines, at most 50"),
        (
            "domain/one.py",
            OPENING + function(parameters="a, b, c, d"),
            "act takes 4 parameters by position: use keywords",
        ),
        (
            "domain/__init__.py",
            OPENING + "from domain import ids\n",
            "an __init__.py holds a docstring and no code",
        ),
        (
            "domain/date_utils.py",
            OPENING,
            "`utils` says nothing: name the module by what it does",
        ),
        (
            "domain/common/dates.py",
            OPENING,
            "`common` says nothing: name the module by what it does",
        ),
        (
            "domain/one.py",
            OPENING + "class HostManager:\n    pass\n",
            "`manager` says nothing: rename HostManager",
        ),
        (
            "domain/one.py",
            OPENING + "# TO" + "DO: later\n",
            "unfinished work is finished or an issue, not a comment",
        ),
        (
            "protos/koseki/v1/one.proto",
            "// FIX" + "ME\n",
            "unfinished work is finished or an issue, not a comment",
        ),
    ],
)
def test_a_breach_is_found(tmp_path: Path, path: str, text: str, expected: str) -> None:
    assert messages(put(tmp_path, path, text=text)) == [expected]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("domain/long.py", OPENING + "A = 1\n" * 399),
        ("tests/test_long.py", "A = 1\n" * 500),
        ("domain/one.py", OPENING + function(lines=50)),
        ("domain/one.py", OPENING + function(parameters="a, b, c, *, d, e")),
        ("domain/one.py", OPENING + function(parameters="a, b, c, d", name="_act")),
        ("tests/test_one.py", function(parameters="a, b, c, d")),
        ("domain/one.py", OPENING + "class Database:\n    pass\n"),
        ("domain/one.py", OPENING + "NAME = 'TO" + "DO'\n"),
        ("domain/__init__.py", OPENING),
        ("koseki/v1/common_pb2.py", "from google import protobuf\n"),
    ],
)
def test_what_keeps_the_limits_passes(tmp_path: Path, path: str, text: str) -> None:
    assert messages(put(tmp_path, path, text=text)) == []


def test_a_method_may_take_three_parameters_besides_self(tmp_path: Path) -> None:
    method = "class Door:\n    def open(self, a, b, c):\n        pass\n"
    assert messages(put(tmp_path, "domain/door.py", text=OPENING + method)) == []


def test_a_breach_says_where_it_is(tmp_path: Path) -> None:
    put(tmp_path, "domain/one.py", text=OPENING + "A = 1\n# XX" + "X\n")
    assert str(check_tree(tmp_path)[0]).startswith("domain/one.py:3: ")
