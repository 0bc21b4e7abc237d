"""What the demo found, beside what the data says, as a table and as a judgement."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from app.demo.faults import KINDS
from app.demo.purchases import Truth

AT_LEAST_ONCE = (
    *(f"{kind}_kills" for kind in KINDS),
    "in_flight_at_kill",
    "redelivered",
)
NONE_AT_ALL = ("lost", "duplicated", "divergences")
REFUSED_PER_CUSTOMERS = 5


def expected(truth: Truth) -> dict[str, Any]:
    """Say what the data makes of each figure."""
    refused = truth.customers // REFUSED_PER_CUSTOMERS
    return {
        "records": truth.records,
        "merges": truth.records - truth.customers,
        "customers": truth.customers,
        "purchases": truth.purchases,
        "cds": truth.cds,
        "dollars": f"{truth.dollars:.2f}",
        "first_customer": truth.first_customer,
        "marketing_granted": truth.customers - refused,
        "marketing_refused": refused,
        **dict.fromkeys(AT_LEAST_ONCE, "at least 1"),
        **dict.fromkeys(NONE_AT_ALL, 0),
    }


def agrees(found: dict[str, Any], truth: Truth) -> bool:
    """Judge every figure."""
    wanted = expected(truth)
    return all(_is_right(name, found[name], wanted[name]) for name in wanted)


def _is_right(name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401  # counts and texts
    return bool(found >= 1) if name in AT_LEAST_ONCE else bool(found == wanted)


def show(console: Console, found: dict[str, Any], truth: Truth) -> None:
    """Print the table."""
    table = Table(title="What Koseki found")
    table.add_column("")
    table.add_column("answered", justify="right")
    table.add_column("the data says", justify="right")
    for name, wanted in expected(truth).items():
        mark = "[green]" if _is_right(name, found[name], wanted) else "[red]"
        table.add_row(name.replace("_", " "), f"{mark}{_text(found[name])}", _text(wanted))
    for name in ("sent_again", "seconds", "signals_per_second"):
        table.add_row(name.replace("_", " "), str(found[name]), "")
    console.print(table)


def _text(value: Any) -> str:  # noqa: ANN401  # counts, texts and one row
    if not isinstance(value, dict):
        return str(value)
    return f"{value['purchases']} purchases, {value['cds']} CDs, ${value['dollars']}"
