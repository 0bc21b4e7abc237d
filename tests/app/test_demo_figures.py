"""The demo's figures: what the data says, and that any answer but that one does not pass."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from app.demo.purchases import Purchase, Truth, read_purchases, truth_of
from app.demo.report import AT_LEAST_ONCE, NONE_AT_ALL, agrees, expected, show

FIGURES = {
    "records": 3509,
    "merges": 1152,
    "customers": 2357,
    "purchases": 6919,
    "cds": 16479,
    "dollars": "244091.94",
    "first_customer": {"purchases": 4, "cds": 7, "dollars": "100.50"},
    "marketing_granted": 1886,
    "marketing_refused": 471,
}


@pytest.fixture(scope="module")
def purchases() -> list[Purchase]:
    return read_purchases()


@pytest.fixture(scope="module")
def truth(purchases: list[Purchase]) -> Truth:
    return truth_of(purchases)


def right(**changed: Any) -> dict[str, Any]:
    """Give what a good run finds, with a change."""
    found = FIGURES | dict.fromkeys(AT_LEAST_ONCE, 1) | dict.fromkeys(NONE_AT_ALL, 0)
    measured = {"sent_again": 3, "seconds": 45.0, "signals_per_second": 900}
    return {**found, **measured, **changed}


def test_the_data_gives_these_figures(truth: Truth) -> None:
    wanted = expected(truth)
    assert {name: wanted[name] for name in FIGURES} == FIGURES


def test_the_sample_holds_purchases_that_are_alike_or_free(purchases: list[Purchase]) -> None:
    contents = Counter((p.user_id, p.time, p.cds, p.dollars) for p in purchases)
    assert sum(count - 1 for count in contents.values()) == 21
    assert sum(Decimal(purchase.dollars) == 0 for purchase in purchases) == 8
    assert [purchase.line for purchase in purchases] == list(range(1, 6920))


def test_odd_purchases_name_the_user_and_even_ones_the_loyalty_id(
    purchases: list[Purchase],
) -> None:
    first, second = purchases[0].call(), purchases[1].call()
    assert (first["userId"], first["messageId"], "context" in first) == ("0001", "1", False)
    assert second["context"] == {
        "externalIds": [{"type": "loyalty_id", "id": purchases[1].loyalty_id}]
    }
    assert "userId" not in second
    for purchase in purchases:
        assert ("userId" in purchase.call()) == (purchase.place % 2 == 1)


def test_a_good_run_agrees(truth: Truth) -> None:
    assert agrees(right(), truth)


WRONG: list[dict[str, Any]] = [
    *({name: FIGURES[name] + 1} for name in FIGURES if isinstance(FIGURES[name], int)),  # type: ignore[operator]  # whole numbers only
    {"dollars": "244091.95"},
    {"dollars": 244091.94},
    {"first_customer": {"purchases": 4, "cds": 7, "dollars": "100.49"}},
    *({name: 0} for name in AT_LEAST_ONCE),
    *({name: 1} for name in NONE_AT_ALL),
    *({name: -1} for name in NONE_AT_ALL),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_any_wrong_figure_does_not_agree(truth: Truth, wrong: dict[str, Any]) -> None:
    assert not agrees(right(**wrong), truth)


def test_the_table_shows_every_figure_beside_what_the_data_says(truth: Truth) -> None:
    page = StringIO()
    show(Console(file=page, width=120), right(records=1), truth)
    for text in ("3509", "16479", "244091.94", "4 purchases, 7 CDs, $100.50", "45.0"):
        assert text in page.getvalue()
