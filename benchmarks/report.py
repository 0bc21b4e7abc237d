"""What a run prints and writes: a table for people, one JSON object for programs.

The object holds every metric by its name, whatever parts were run; `results.json` holds the same by
part, with the machine that was measured.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Metric, Metrics, rounded

RESULTS = Path(__file__).parent / "results.json"

Measured = Mapping[str, Metrics]
"""The metrics of each part."""


def print_table(measured: Measured) -> None:
    """Print every metric beside its raw limit."""
    table = Table(title="Koseki, measured")
    for name in ("part", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("value", "raw", "ratio", "wanted"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("beside", overflow="fold")
    for part, metrics in measured.items():
        for name, metric in metrics.items():
            table.add_row(part, f"{name}\n({metric.unit})", *_cells(metric))
    Console().print(table)


def one_line(measured: Measured) -> str:
    """Write every metric by its name, as one line of JSON."""
    fields = {
        name: metric.as_fields()
        for metrics in measured.values()
        for name, metric in metrics.items()
    }
    return json.dumps(fields)


def write_results(measured: Measured, path: Path = RESULTS) -> None:
    """Write the metrics by part; parts that were not run keep what was written of them."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part, metrics in measured.items():
        results[part] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "metrics": {name: metric.as_fields() for name, metric in metrics.items()},
        }
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cells(metric: Metric) -> tuple[str, ...]:
    wanted = ""
    if metric.ratio_at_least is not None:
        wanted = f"≥ {metric.ratio_at_least}"
    elif metric.ratio_at_most is not None:
        wanted = f"≤ {metric.ratio_at_most}"
    ratio = "" if metric.ratio is None else f"{metric.ratio:.2f}"
    colour = "green" if metric.is_as_wanted else "red"
    return (
        _number(metric.value),
        "" if metric.raw is None else _number(metric.raw),
        f"[{colour}]{ratio}[/]",
        wanted,
        ", ".join(f"{name} {_number(number)}" for name, number in metric.beside.items()),
    )


def _number(number: float) -> str:
    return f"{rounded(number):,}".removesuffix(".0")
