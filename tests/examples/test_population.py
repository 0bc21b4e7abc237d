"""A population is the same for the same seed, hard in the shares asked for, and knows its truth."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.population.delivery import STARTS_AT, Population, ends_at, populate
from examples.population.lives import ORDER
from examples.population.people import Shares
from examples.population.truth import owners, truth_at

PACKAGE = Path(__file__).parents[2] / "examples" / "population"
PEOPLE = 2_000


@pytest.fixture(scope="module")
def population() -> Population:
    return populate(PEOPLE, seed=11)


def test_it_imports_nothing_of_koseki() -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for file in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    foreign = {name for name in imported if not name.startswith("examples.population")}
    assert {name.partition(".")[0] for name in foreign} <= sys.stdlib_module_names


@given(seed=st.integers(0, 2**32))
def test_a_seed_gives_one_population(seed: int) -> None:
    assert populate(20, seed=seed) == populate(20, seed=seed)


def test_arrivals_are_in_order_and_what_happened_came_before() -> None:
    deliveries = populate(200, seed=5).deliveries
    assert deliveries == sorted(deliveries, key=lambda d: (d.delivered_at, d.message_id))
    assert all(STARTS_AT <= d.happened_at <= d.delivered_at <= ends_at() for d in deliveries)


def test_some_calls_arrive_twice_and_some_late(population: Population) -> None:
    calls = [d for d in population.deliveries if d.kind == "call"]
    arrivals = Counter(d.message_id for d in calls)
    late = {d.message_id for d in calls if d.delivered_at - d.happened_at > timedelta(hours=3)}
    assert max(arrivals.values()) == 2
    assert 0.02 < sum(count - 1 for count in arrivals.values()) / len(arrivals) < 0.04
    assert 0.03 < len(late) / len(arrivals) < 0.07


def test_devices_are_shared_and_accounts_doubled_as_often_as_asked() -> None:
    shares = Shares(shared_devices=0.1, second_accounts=0.2)
    population = populate(PEOPLE, seed=2, shares=shares)
    devices = [o for name, o in owners(population).items() if name.startswith("anonymous_id:")]
    doubled = sum(person.is_doubled for person in population.people)
    assert 0.09 < sum(len(found) == 2 for found in devices) / len(devices) < 0.11
    assert 0.17 < doubled / PEOPLE < 0.23


def test_everything_that_names_somebody_is_owned_by_them(population: Population) -> None:
    owned = owners(population)
    for delivery in population.deliveries:
        body = delivery.body
        for namespace, field in (("user_id", "userId"), ("anonymous_id", "anonymousId")):
            if field in body:
                assert delivery.person in owned[f"{namespace}:{body[field]}"]


def test_phone_numbers_are_such_as_exist(population: Population) -> None:
    numbers = [phonenumbers.parse(person.phone) for person in population.people]
    assert all(phonenumbers.is_valid_number(number) for number in numbers)


def test_the_truth_is_what_was_said_last(population: Population) -> None:
    for number, truth in truth_at(population, ends_at()).items():
        said = [d for d in population.deliveries if d.person == number]
        acts = [d for d in said if d.kind == "consent" and d.body["purpose"] == "marketing"]
        last = max(acts, key=lambda d: d.happened_at).body["state"] if acts else None
        erased = any(d.kind == "erase" for d in said)
        assert truth.is_erased is erased
        assert ("marketing" in truth.open_purposes) is (last == "given" and not erased)
        assert truth.orders == len({d.message_id for d in said if d.body.get("event") == ORDER})


def test_before_anything_arrived_nothing_is_known(population: Population) -> None:
    truths = truth_at(population, STARTS_AT - timedelta(seconds=1)).values()
    assert all(not truth.orders and not truth.is_erased for truth in truths)
    assert all(truth.open_purposes == {"service"} for truth in truths)
