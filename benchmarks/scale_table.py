"""The README's table of what `scale.py` has measured: `python -m benchmarks.scale_table`.

It stands between two marks and is made of `scale.json` alone; a test says that both agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring import rounded
from benchmarks.scale import RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- scale: made by benchmarks/scale_table.py -->", "<!-- /scale -->"
_BETWEEN = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
MINUTE_SECONDS = 60
SHOWN_IN_MINUTES_SECONDS = 600.0
SHOWN_WHOLE_SECONDS = 10.0

Run = Mapping[str, Any]  # Any: JSON as `scale.write_results` writes it
Steps = Mapping[str, Mapping[str, float]]


def render(results: Mapping[str, Run]) -> str:
    """Give the table: a column for each population, smallest first."""
    runs = sorted(results.values(), key=lambda run: int(run["customers"]))
    lines = [_row("measured", [_heading(run) for run in runs]), _row("---", ["---"] * len(runs))]
    lines += [_row(name, [_cell(told, run) for run in runs]) for name, told in ROWS]
    return "\n".join(lines) + "\n"


def with_table(text: str, table: str) -> str:
    """Give a README's text with this table in its place."""
    changed, found = _BETWEEN.subn(lambda _: table, text)
    if found != 1:
        raise ValueError(f"there is not one {BEGIN}")
    return changed


def main() -> int:
    """Write the table into the README."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    README.write_text(with_table(text, render(results)), encoding="utf-8")
    return 0


def _heading(run: Run) -> str:
    return f"{run['customers']:,} customers, {run['events']:,} events, {run['segments']:,} segments"


def _row(name: str, cells: list[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def _cell(told: Callable[[Steps], str], run: Run) -> str:
    try:
        return told(run["steps"])
    except KeyError:  # the run was stopped before
        return "not run"


def _restart(name: str) -> Callable[[Steps], str]:
    def told(steps: Steps) -> str:
        return f"{_seconds(steps[name])}, {_megabytes(steps[name]['memory_bytes'])} before"

    return told


def _making(name: str, what: str) -> Callable[[Steps], str]:
    def told(steps: Steps) -> str:
        made = steps[name]
        memory = _megabytes(made["memory_bytes"])
        return f"{_seconds(made)} ({_rate(made)} {what}/s), {memory}"

    return told


def _stored(name: str, what: str) -> Callable[[Steps], str]:
    def told(steps: Steps) -> str:
        return f"{_making(name, what)(steps)}; {_megabytes(steps[name]['bytes_on_disk'])} on disk"

    return told


def _seconds(step: Mapping[str, float]) -> str:
    seconds = step["seconds"]
    if seconds >= SHOWN_IN_MINUTES_SECONDS:
        return f"{seconds / MINUTE_SECONDS:.0f} min"
    return f"{seconds:.0f} s" if seconds >= SHOWN_WHOLE_SECONDS else f"{seconds:.2f} s"


def _rate(step: Mapping[str, float]) -> str:
    return f"{rounded(step['made'] / step['seconds']):,.0f}"


def _megabytes(number: float) -> str:
    return f"{number / 1e6:,.0f} MB"


ROWS: tuple[tuple[str, Callable[[Steps], str]], ...] = (
    ("nats-server answers again after SIGKILL, a quarter of them", _restart("restart_quarter")),
    ("the same, all of them", _restart("restart_all")),
    ("project into an empty read side", _stored("project", "events")),
    (
        "count an audience of three segments and a purpose",
        lambda steps: f"{steps['count']['microseconds']:.0f} µs",
    ),
    ("back-fill a segment that reads traits", _making("backfill_traits", "customers")),
    ("back-fill one that counts in a window", _making("backfill_windowed", "customers")),
    ("rebuild beside the read side that serves", _stored("rebuild", "events")),
)


if __name__ == "__main__":
    raise SystemExit(main())
