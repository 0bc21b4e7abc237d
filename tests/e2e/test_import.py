"""`koseki import`: each line counts once, over runs and kills; bad lines are named (R8, R9)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.installation import Caller, Installation, koseki, person, run_koseki
from tests.support.waiting import until

TIME = "2024-05-01T10:00:00Z"
LINES = 2_000
PEOPLE = 20


def order(number: int, user: str) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": user,
        "timestamp": TIME,
        "properties": {"cds": 1, "number": number},
    }


def write(path: Path, lines: list[object]) -> Path:
    path.write_bytes(
        b"".join(x if isinstance(x, bytes) else orjson.dumps(x) + b"\n" for x in lines)
    )
    return path


def imported(installation: Installation, path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    status, printed, errors = run_koseki(
        *("import", str(path), "--source", "shop", *options),
        *("--data", str(installation.data), "--json"),
    )
    assert printed, errors
    found: dict[str, Any] = orjson.loads(printed)
    return status, found


def begun(installation: Installation, path: Path) -> subprocess.Popen[bytes]:
    command = koseki("import", str(path), "--source", "shop", "--data", str(installation.data))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_lines_pass_the_gates_and_bad_ones_are_named(
    installation: Installation, caller: Caller, tmp_path: Path
) -> None:
    who = "imported-1"
    same = order(1, who)
    refused = {"type": "consent", "userId": who, "purpose": "marketing", "timestamp": TIME}
    path = write(
        tmp_path / "lines.jsonl",
        [
            {"type": "identify", "userId": who, "traits": {"tier": "gold"}, "timestamp": TIME},
            same,
            same,
            b"{nonsense\n",
            order(2, ""),
            {**refused, "state": "given"},
            {**refused, "purpose": "nonsense", "state": "given"},
        ],
    )
    bad = [
        {"line": 4, "reason": "MALFORMED_JSON"},
        {"line": 5, "reason": "EMPTY_IDENTIFIER"},
        {"line": 7, "reason": "UNKNOWN_PURPOSE"},
    ]
    for recorded, duplicates in ((4, 0), (0, 4)):
        status, found = imported(installation, path)
        assert (status, found["lines"], found["unusable_lines"]) == (1, 7, bad)
        assert (found["recorded"], found["duplicates"]) == (recorded, duplicates)
    customer = await caller.get(person(who), at_least_revision=1)
    assert [(s.name, s.count) for s in customer.signals] == [("Order Completed", 2)]
    assert (await caller.check(person(who), "marketing")).open
    history = await caller.history(person(who))
    assert [(act.imported, act.happened_at.ToJsonString()) for act in history] == [(True, TIME)]


async def test_a_file_that_names_an_erased_person_brings_nobody_back(
    installation: Installation, caller: Caller, tmp_path: Path
) -> None:
    who, mail, other = "imported-erased", "erased@example.com", "imported-other"
    known = {**order(1, who), "context": {"traits": {"email": mail}}}
    named = {"type": "identify", "userId": who, "traits": {"email": mail}, "timestamp": TIME}
    path = write(tmp_path / "before.jsonl", [named, known])
    assert imported(installation, path)[0] == 0
    last = installation.json("status")["log_revision"]
    customer = (await caller.get(person(who), at_least_revision=last)).customer_id
    erased = installation.json("erase", "--customer", customer)
    assert erased["erased_since_revision"]
    consent = {"type": "consent", "userId": who, "purpose": "marketing", "timestamp": TIME}
    with_another = {**named, "userId": other}
    again = write(
        tmp_path / "again.jsonl",
        [named, known, order(2, who), {**consent, "state": "given"}, with_another],
    )
    refused = [{"line": line, "reason": "IDENTIFIER_ERASED"} for line in (1, 2, 3, 4)]
    for run in range(2):
        status, found = imported(installation, again)
        assert (status, found["unusable_lines"]) == (1, refused), run
    assert not (await caller.check(person(who), "marketing")).open
    last = installation.json("status")["log_revision"]
    kept = await caller.get(person(other), at_least_revision=last)
    assert [held.namespace for held in kept.identifiers] == ["user_id"]  # the address was left out
    assert kept.customer_id != customer


@pytest.mark.timeout(120)
async def test_an_import_that_is_killed_goes_on_and_counts_nothing_twice(
    installation: Installation, caller: Caller, tmp_path: Path
) -> None:
    people = [f"resumed-{number}" for number in range(PEOPLE)]
    lines: list[object] = [order(n, people[n % PEOPLE]) for n in range(LINES)]
    path = write(tmp_path / "many.jsonl", lines)
    notes = installation.data / "imports"
    killed = begun(installation, path)
    await until(lambda: any(notes.glob("*.json")) or killed.poll() is not None, timeout_seconds=60)
    killed.kill()
    killed.wait()
    status, found = imported(installation, path)
    assert (status, found["lines"], found["stopped_by"]) == (0, LINES, None)
    assert not list(notes.glob("*.json"))
    counts = []
    for who in people:
        customer = await caller.get(person(who))
        counts += [signal.count for signal in customer.signals]
    assert counts == [LINES // PEOPLE] * PEOPLE


def test_a_csv_is_imported_by_its_columns(installation: Installation, tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(f"customer,when,cds:n\nimported-2,{TIME},3\nimported-2,soon,1\n")
    columns = tmp_path / "columns.toml"
    columns.write_text(
        '[columns]\ncustomer = "userId"\nwhen = "timestamp"\n"cds:n" = "properties.cds:number"\n'
        '[defaults]\ntype = "track"\nevent = "Order Completed"\n'
    )
    status, found = imported(installation, path, "--columns", str(columns))
    assert (status, found["recorded"]) == (1, 1)
    assert found["unusable_lines"] == [{"line": 3, "reason": "INVALID_TIMESTAMP"}]
    status, _printed, errors = run_koseki(
        *("import", str(path), "--source", "shop", "--data", str(installation.data))
    )
    assert (status, "the column customer means nothing here" in errors) == (2, True)
    status, _printed, errors = run_koseki(
        *("import", str(path), "--source", "nowhere", "--data", str(installation.data))
    )
    assert status == 2
