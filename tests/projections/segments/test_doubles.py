"""Whole numbers and doubles are reckoned with together: a number is a number, however it came."""

from __future__ import annotations

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.segments.doubles import in_doubles
from projections.segments.explaining import preview_counts
from projections.segments.filling import fill_slice
from projections.segments.membership import MEMBERSHIPS
from projections.segments.running import MEMBERS_MAX, Program
from tests.projections.histories import batches, record_id
from tests.projections.segments.happenings import Happenings

WIDE = 220
"""A loop of so many turns over as many members takes more than half of a budget."""

WHOLE = {"a": 15, "big": 2**62}


def folded(history: Happenings) -> MemoryTables:
    tables = MemoryTables()
    for append in batches(history.entries, 1):
        fold_batch(tables, append)
    return tables


def holds(expression: str, **traits: object) -> bool:
    """Judge somebody by every way there is, and require one answer."""
    history = Happenings()
    history.rules()
    history.define("some", expression, purposes=("service",))
    history.set(1, **traits)  # type: ignore[arg-type]  # JSON, as every test says it
    history.did(1, "A", dollars=15)
    history.did(1, "A", dollars=15.5)
    tables = folded(history)
    (previewed,) = preview_counts(tables, expression, purposes=("service",)).values()
    while fill_slice(tables):
        pass
    history.activate("some")
    fold_batch(tables, history.entries[-1:])  # what was filled beside is taken over
    for judged in (tables, folded(history)):
        row = dict(judged.scan(MEMBERSHIPS, b""))[record_id(1).encode()]
        assert ("some" in row["in"]) == bool(previewed)
    return bool(previewed)


@pytest.mark.parametrize("dollars", [15, 15.5])
@pytest.mark.parametrize(
    "expression",
    [
        "traits.dollars * 1.1 > 10.0",
        "traits.dollars * 2 > 29",
        "traits.dollars / 2.0 > 7.0 && traits.dollars - 0.5 > 14",
        "2 * (traits.dollars - 1) + 0.5 == traits.dollars * 2 - 1.5",
        "-traits.dollars + 1 < -12.5",
        "traits.none > 1 || traits.dollars * 1.1 > 10.0",
        "traits.dollars * 1.1 > 10.0 || traits.none > 1",
        "traits.deep.list.exists(each, each * 1.5 > 30.0 && each + 1 > 21)",
        "traits.deep.list[size(traits.deep.list) - 1] * 1.5 > 30.0",
        "size(traits.deep.list) * 1.5 + traits.dollars > 18",
        "(traits.dollars > 1 ? 1 : 2) * 1.5 == 1.5",
        'count("A") * 2 > 3.5 && sum("A", "dollars") / count("A") > 15',
        'count("A", "ever", "properties.dollars * 1.1 > 10.0 && properties.dollars * 2 > 29") == 2',
        "traits.dollars * 9223372036854775807 > 9223372036854775807",
    ],
)
def test_numbers_of_both_types_are_reckoned_with_together(expression: str, dollars: float) -> None:
    assert holds(expression, dollars=dollars, deep={"list": [1, 2.5, 21]})


@pytest.mark.parametrize(
    "expression",
    [
        "traits.name * 2 > 1",
        "traits.name + 1.5 > 1",
        "traits.none * 1.5 > 1.0",
        "traits.is_so * 1.5 > 0.0",
        "traits.dollars % 2.0 == 1.0",
        "traits.double / traits.zero > 1",
        "traits.dollars / traits.zero + 1.5 > 1.0",
        "traits.double / (1 - 1) > 1",
        "traits.double / -(traits.dollars - 15) < 1",
        "!(traits.name * 1.5 > 1)",
    ],
)
def test_what_is_no_number_or_is_missing_or_divided_by_zero_fails_as_before(
    expression: str,
) -> None:
    assert not holds(expression, dollars=15, double=15.5, name="x", is_so=True, zero=0)


def test_whole_numbers_alone_stay_whole() -> None:
    assert holds("traits.a / 2 == 7 && traits.a % 2 == 1 && traits.big + 1 > traits.big", **WHOLE)


def test_what_is_reckoned_again_may_cost_as_much_as_what_is_reckoned_once() -> None:
    turns = "traits.many.all(one, traits.many[0] * 1.5 < 2.0)"
    assert MEMBERS_MAX / 2 < WIDE * WIDE < MEMBERS_MAX
    assert holds(f"{turns} && traits.last * 2 > 6", many=[1.0] * WIDE, last=3.5)


@given(st.text(alphabet='ab.+-*/%()[]{} "1,0.5e?:<&!', max_size=40))
def test_whatever_can_be_compiled_can_be_in_doubles_or_is_left_alone(source: str) -> None:
    try:
        program = Program(source)
    except ValueError:
        return
    written = cel.compile(in_doubles(source))
    assert set(written.variables()) == program.variables
