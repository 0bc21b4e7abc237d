"""The independent closure does what the design says, rule by rule; agreement counts pairs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.population.agreement import agreement, named, share_undecidable
from examples.population.closure import RECORDS_MAX, Closure, Identifier, Namespace
from examples.population.delivery import STARTS_AT, Delivery, populate

RULES = (
    Namespace("user", 1),
    Namespace("mail", 2),
    Namespace("person", 1, parts=("name", "birthday")),
    Namespace("device", 10),
)


def names(text: str) -> list[Identifier]:
    """Read identifiers such as `user:1 mail:a`."""
    return [(namespace, value) for namespace, _, value in (n.partition(":") for n in text.split())]


def closure_of(*messages: str, rules: tuple[Namespace, ...] = RULES) -> Closure:
    """Take messages, named m1, m2 and so on."""
    closure = Closure(rules)
    for place, text in enumerate(messages, start=1):
        closure.take(f"m{place}", names(text))
    return closure


@pytest.mark.parametrize(
    ("messages", "groups"),
    [
        (["user:1", "user:2"], "m1 | m2"),
        (["user:1 device:d", "device:d"], "m1 m2"),
        (["device:d", "device:e", "device:d device:e"], "m1 m2 m3"),
        (["user:1 device:d", "user:2 device:d", "device:d"], "m1 m3 | m2"),
        (["user:1 mail:a", "user:2 mail:a", "mail:a"], "m1 m3 | m2"),
        (["user:1", "device:d", "user:1 device:d"], "m1 m2 m3"),
        (["user:1 mail:a", "user:1 mail:b", "user:1 mail:c", "mail:c"], "m1 m2 m3 | m4"),
        (["mail:a mail:b", "mail:c", "mail:a mail:c"], "m1 m3 | m2"),
        (["mail:a mail:b", "device:d", "mail:a device:d"], "m1 m2 m3"),
        (["user:1 device:d", "user:2 device:e", "device:d device:e"], "m1 m3 | m2"),
        (["other:x", "other:x other:y", "other:y"], "m1 m2 m3"),
    ],
)
def test_messages_end_in_one_customer_by_the_wording_of_the_rules(
    messages: list[str], groups: str
) -> None:
    closure = closure_of(*messages)
    wanted = {m: group.split()[0] for group in groups.split(" | ") for m in group.split()}
    assert closure.messages() == wanted


def test_the_order_in_which_identifiers_are_given_does_not_count() -> None:
    one = closure_of("device:d user:1 mail:a", "mail:a user:2 device:d")
    other = closure_of("user:1 mail:a device:d", "device:d user:2 mail:a")
    assert one.messages() == other.messages() == {"m1": "m1", "m2": "m2"}


def test_a_message_that_comes_again_changes_nothing() -> None:
    closure = closure_of("user:1")
    closure.take("m1", names("user:1 device:d"))
    assert closure.customer_of(("device", "d")) is None


def test_a_composite_is_made_where_all_its_parts_are_there() -> None:
    closure = closure_of()
    assert closure.composed({"name": "ada", "birthday": "1815"}) == [("person", "ada\n1815")]
    assert closure.composed({"name": "ada", "birthday": ""}) == []


def test_the_customer_is_named_by_its_smallest_record() -> None:
    closure = Closure(RULES)
    closure.take("m1", names("user:1"), record="r7")
    closure.take("m2", names("device:d"), record="r3")
    closure.take("m3", names("user:1 device:d"), record="r1")
    assert set(closure.messages().values()) == {"r3"}
    assert closure.identifiers() == {("user", "1"): "r3", ("device", "d"): "r3"}


def test_an_undone_merge_is_not_made_again() -> None:
    closure = closure_of("user:1", "device:d", "user:1 device:d")
    closure.undo("m1", "m2")
    closure.take("m4", names("user:1 device:d"))
    assert closure.messages() == {"m1": "m1", "m2": "m2", "m3": "m1", "m4": "m1"}


def test_an_undo_parts_no_more_than_hung_on_its_edge() -> None:
    closure = closure_of("user:1", "device:d", "device:e", "user:1 device:d device:e")
    closure.undo("m1", "m2")
    assert closure.messages() == {"m1": "m1", "m2": "m2", "m3": "m1", "m4": "m1"}
    assert closure.identifiers()[("device", "d")] == "m2"


def test_no_customer_has_more_records_than_it_may() -> None:
    rules = (Namespace("device", 512),)
    apart = [f"device:{n}" for n in range(RECORDS_MAX + 1)]
    joined = [f"device:0 device:{n}" for n in range(1, RECORDS_MAX + 1)]
    closure = closure_of(*apart, *joined, rules=rules)
    assert len({closure.customer_of(("device", str(n))) for n in range(RECORDS_MAX + 1)}) == 2


def test_pairs_are_counted_as_by_hand() -> None:
    judged = agreement({1: "a", 2: "a", 3: "a", 4: "b"}, {1: "x", 2: "x", 3: "y", 4: "y"})
    assert (judged.found, judged.wanted, judged.both, judged.differing) == (3, 2, 1, 3)
    assert judged.precision == pytest.approx(1 / 3)
    assert judged.recall == pytest.approx(1 / 2)
    assert judged.f1 == pytest.approx(2 / 5)


def test_what_is_missing_from_a_grouping_is_with_nobody() -> None:
    judged = agreement({1: "a"}, {1: "x", 2: "x"})
    assert (judged.found, judged.wanted, judged.both) == (0, 1, 0)


@given(st.dictionaries(st.integers(), st.integers(0, 3)))
def test_a_grouping_agrees_with_itself(groups: dict[int, int]) -> None:
    judged = agreement(groups, {item: f"of {group}" for item, group in groups.items()})
    assert (judged.precision, judged.recall, judged.f1, judged.differing) == (1.0, 1.0, 1.0, 0)


def call(message_id: str, person: int, **body: str) -> Delivery:
    at = STARTS_AT + timedelta(minutes=1)
    return Delivery(at, at, "call", message_id, "web", dict(body), person)


def test_browsing_that_nothing_leads_from_cannot_be_decided() -> None:
    deliveries = [
        call("m1", 1, userId="1", anonymousId="mine"),
        call("m2", 1, anonymousId="mine"),
        call("m3", 1, anonymousId="never logged in on"),
        call("m4", 1, anonymousId="ours"),
        call("m5", 2, anonymousId="ours"),
    ]
    # Of person 1's six pairs only m1 and m2 can be known to be one; person 2 has no pair.
    assert share_undecidable(deliveries) == pytest.approx(5 / 6)


def test_the_identifiers_of_a_delivery_are_those_that_its_call_names() -> None:
    signed_up = next(d for d in populate(5, seed=1).deliveries if d.body.get("type") == "identify")
    assert [namespace for namespace, _ in named(signed_up)] == [
        "user_id",
        "email",
        "phone",
        "anonymous_id",
    ]
