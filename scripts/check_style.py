"""Check the limits of style that no linter knows: sizes, names, openings and unfinished work.

Run by `make check`. Prints one line for each breach and exits 1 if there is any. Line length,
complexity and docstrings of functions are ruff's, import direction is import-linter's.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_FOLDERS = (
    "actors",
    "app",
    "domain",
    "eventlog",
    "koseki",
    "projections",
    "replay",
    "services",
    "benchmarks",
    "examples",
    "scripts",
    "tests",
)
TEXTS_WITH_COMMENTS = ("protos/**/*.proto", "*.yaml", "*.toml", "Makefile", ".ci/run")
GENERATED = re.compile(r"_pb2(_grpc)?\.py$")

FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 50
POSITIONAL_PARAMETERS_MAX = 3
OPENING_LINES_MAX = 6
BANNED_WORDS = frozenset(
    {"util", "utils", "helper", "helpers", "manager", "managers", "common", "base"}
)
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Breach:
    """One place that breaks a limit; `path` is relative to the root, `line` counts from 1."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file: where it is, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def is_test(self) -> bool:
        """Say whether it belongs to the tests."""
        return self.path.parts[0] == "tests"

    def breach(self, line: int, message: str) -> Breach:
        """Name a breach in this file."""
        return Breach(self.path, line, message)


def check_module(module: Module) -> Iterator[Breach]:
    """Yield every breach of one Python file."""
    yield from _check_size(module)
    yield from _check_opening(module)
    yield from _check_names(module)
    yield from _check_functions(module)
    yield from _check_comments(module)
    if module.path.name == "__init__.py":
        yield from _check_package(module)


def check_text(path: Path, text: str) -> Iterator[Breach]:
    """Yield unfinished work in a file that is not Python."""
    for number, line in enumerate(text.splitlines(), start=1):
        if UNFINISHED.search(line):
            yield Breach(path, number, "unfinished work is finished or an issue, not a comment")


def check_tree(root: Path) -> list[Breach]:
    """Check every file of a repository that the limits apply to."""
    found: list[Breach] = []
    for folder in PYTHON_FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            if not GENERATED.search(path.name):
                text = path.read_text(encoding="utf-8")
                module = Module(path.relative_to(root), text, ast.parse(text))
                found.extend(check_module(module))
    for pattern in TEXTS_WITH_COMMENTS:
        for path in sorted(root.glob(pattern)):
            found.extend(check_text(path.relative_to(root), path.read_text(encoding="utf-8")))
    return found


def _check_size(module: Module) -> Iterator[Breach]:
    lines = len(module.text.splitlines())
    limit = TEST_FILE_LINES_MAX if module.is_test else FILE_LINES_MAX
    if lines > limit:
        yield module.breach(limit + 1, f"the file has {lines} lines, at most {limit}")


def _check_opening(module: Module) -> Iterator[Breach]:
    if module.is_test:
        return
    opening = ast.get_docstring(module.tree)
    if opening is None:
        yield module.breach(1, "the module does not open with what it is for")
        return
    # The tree of errors that opens an errors.py, and a package's list of files, may be longer.
    if module.path.name in {"errors.py", "__init__.py"}:
        return
    lines = sum(1 for line in opening.splitlines() if line.strip())
    if lines > OPENING_LINES_MAX:
        yield module.breach(1, f"the opening has {lines} lines, at most {OPENING_LINES_MAX}")


def _check_names(module: Module) -> Iterator[Breach]:
    for part in module.path.with_suffix("").parts:
        for word in BANNED_WORDS.intersection(part.split("_")):
            yield module.breach(1, f"`{word}` says nothing: name the module by what it does")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            for word in BANNED_WORDS.intersection(_words(node.name)):
                yield module.breach(node.lineno, f"`{word}` says nothing: rename {node.name}")


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _check_functions(module: Module) -> Iterator[Breach]:
    for node in ast.walk(module.tree):
        if not isinstance(node, Function):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            message = f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
            yield module.breach(node.lineno, message)
        if _is_public(node) and not module.is_test:
            positional = _positional(node)
            if positional > POSITIONAL_PARAMETERS_MAX:
                message = f"{node.name} takes {positional} parameters by position: use keywords"
                yield module.breach(node.lineno, message)


def _is_public(function: Function) -> bool:
    return function.name == "__init__" or not function.name.startswith("_")


def _positional(function: Function) -> int:
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return len(names[1:] if names[:1] in (["self"], ["cls"]) else names)


def _check_comments(module: Module) -> Iterator[Breach]:
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            for breach in check_text(module.path, token.string):
                yield module.breach(token.start[0], breach.message)


def _check_package(module: Module) -> Iterator[Breach]:
    for node in module.tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring:
            yield module.breach(node.lineno, "an __init__.py holds a docstring and no code")
            return


def main() -> int:
    """Check this repository; give the exit status."""
    found = check_tree(ROOT)
    for breach in found:
        print(breach, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
