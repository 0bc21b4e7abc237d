"""The contract says what the code can answer: every reason of an error is in its table."""

import ast
import re
from collections.abc import Iterator

from tests.support.project import ROOT

TABLE = ROOT / "protos" / "koseki" / "v1" / "common.proto"
REASON = re.compile(r"[A-Z]+(_[A-Z]+)+")
# Where errors are made that a gRPC caller can meet, and the calls that make them.
SOURCES = ("domain", "services", "actors")
ELSEWHERE = ("actors/intake",)
MADE_BY = {
    "Denied",
    "Invalid",
    "NotFound",
    "PurposeClosed",
    "Refused",
    "RulesUnavailable",
    "failed",
    "__init__",
    "_fail",
    "_closed",
}


def reasons_in_code() -> Iterator[str]:
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.relative_to(ROOT).as_posix().startswith(ELSEWHERE):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and name_of(node.func) in MADE_BY:
                    yield from (
                        argument.value
                        for argument in node.args
                        if isinstance(argument, ast.Constant)
                        and isinstance(argument.value, str)
                        and REASON.fullmatch(argument.value)
                    )


def name_of(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def reasons_in_contract() -> set[str]:
    comments = [line for line in TABLE.read_text().splitlines() if line.startswith("//     ")]
    return {found[0] for line in comments for found in REASON.finditer(line)}


def test_every_reason_that_the_code_gives_is_in_the_table_of_the_contract() -> None:
    found = set(reasons_in_code())
    assert {"UNKNOWN_SOURCE", "PURPOSE_CLOSED", "MISSING_PURPOSE", "COMMAND_TOO_OLD"} <= found
    assert found - reasons_in_contract() == set()
