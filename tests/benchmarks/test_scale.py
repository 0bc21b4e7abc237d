"""The run over a large population: goes on where it was killed, and README tells its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.scale import ORDER, RESULTS
from benchmarks.scale_log import EVENTS_EACH, PASSES, Part
from benchmarks.scale_state import State
from benchmarks.scale_table import README, render, with_table

ROOT = Path(__file__).parents[2]
CUSTOMERS, SEGMENTS = 40, 8
RUN_SECONDS_MAX = 120.0


def test_the_readme_tells_what_was_measured() -> None:
    text, results = README.read_text("utf-8"), json.loads(RESULTS.read_text("utf-8"))
    assert results
    assert with_table(text, render(results)) == text


def test_a_step_that_was_not_run_is_not_told() -> None:
    run = {"customers": 1_000, "events": 10_000, "segments": 10, "steps": {}}
    count = {"count": {"microseconds": 12.3}}
    more = {**run, "customers": 20_000, "steps": count}
    table = render({"20000": more, "1000": run}).splitlines()
    assert table[0].index("1,000 customers") < table[0].index("20,000 customers")
    (counted,) = (line for line in table if line.startswith("| count"))
    assert counted.endswith("| not run | 12 µs |")


@pytest.mark.parametrize("customers", [1, 7, 12])
def test_what_a_log_lacks_follows_from_where_it_ends(customers: int) -> None:
    part = Part(100, customers, after_revision=5)
    everything = list(part.decisions(0))
    assert sorted(everything) == [(100 + who, n) for who in range(customers) for n in range(PASSES)]
    revision = part.after_revision
    for done, (_, number) in enumerate(everything):
        assert list(part.decisions(revision)) == everything[done:]
        revision += EVENTS_EACH - PASSES + 1 if number == 0 else 1
    assert revision == part.last_revision


def test_a_run_that_was_killed_goes_on_to_its_end(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    state = State(tmp_path / "data")
    killed = _begin(tmp_path)
    _wait_until_begun(state, "append_rest", killed)
    _kill_all(killed)
    assert not state.is_done("project")
    assert _begin(tmp_path).wait(RUN_SECONDS_MAX) == 0
    (run,) = json.loads(results.read_text("utf-8")).values()
    assert list(state.read()) == list(ORDER)
    assert run["steps"].keys() == set(ORDER)
    assert run["events"] == CUSTOMERS * EVENTS_EACH
    rules = 2 + 2 * SEGMENTS
    assert run["steps"]["project"]["made"] == rules + CUSTOMERS * EVENTS_EACH
    assert run["steps"]["rebuild"]["made"] == rules + CUSTOMERS * EVENTS_EACH + 4
    assert "not run" not in render({"tiny": run})


def _begin(folder: Path) -> subprocess.Popen[bytes]:
    sizes = ["--customers", str(CUSTOMERS), "--segments", str(SEGMENTS)]
    places = ["--folder", str(folder / "data"), "--results", str(folder / "results.json")]
    command = [sys.executable, "-m", "benchmarks.scale", *places, *sizes]
    return subprocess.Popen(command, cwd=ROOT)


def _kill_all(begun: subprocess.Popen[bytes]) -> None:
    """Kill a run, its step and its server, and wait until they are gone."""
    processes = [psutil.Process(begun.pid), *psutil.Process(begun.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a step may have ended just now
            process.kill()
    begun.wait(RUN_SECONDS_MAX)
    _, alive = psutil.wait_procs(processes, timeout=RUN_SECONDS_MAX)
    assert not alive


def _wait_until_begun(state: State, step: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while not state.is_begun(step):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
