"""`koseki verify` in several processes: Ray is started for it, and nothing of it is left (R17)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import orjson

from tests.e2e.installation import Caller, Installation, koseki, order, person, processes_of
from tests.support.waiting import until


def verified(installation: Installation, *, processes: int) -> tuple[int, dict[str, Any]]:
    """Give the process id of the command too, by which its folders are named."""
    options = ("--processes", str(processes), "--data", str(installation.data), "--json")
    command = subprocess.Popen(koseki("verify", *options), stdout=subprocess.PIPE)
    printed, _ = command.communicate(timeout=90)
    found: dict[str, Any] = orjson.loads(printed)
    return command.pid, found


def folders_of(pid: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"koseki-ray-{pid}-*"))


async def test_shares_folded_by_processes_prove_the_read_side(
    installation: Installation, caller: Caller
) -> None:
    for number in range(6):
        who = person(f"shared-{number % 4}")
        (outcome,) = await caller.ingest(order(f"v{number % 5}", who, cds=number))
        await caller.get(who, at_least_revision=outcome.revision)
    parts = len(processes_of(installation.data))
    pid, found = verified(installation, processes=2)
    _, alone = verified(installation, processes=1)
    assert (found["holds"], found["folded_in_shares"]) == (True, True)
    assert (alone["holds"], alone["folded_in_shares"]) == (True, False)
    if found["revision"] == alone["revision"]:  # nothing else went on meanwhile
        assert found["rows_digest"] == alone["rows_digest"]
        assert found["rows_compared"] == alone["rows_compared"]
    assert folders_of(pid) == []
    await until(lambda: len(processes_of(installation.data)) <= parts)
