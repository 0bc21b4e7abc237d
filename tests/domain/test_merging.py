"""Merges as edges (R5, R7): chains, trees, several at once, and how large a customer may be."""

from __future__ import annotations

from itertools import permutations

import pytest

from domain.commands import PersonCommand
from domain.ids import IDENTIFIERS_PER_CUSTOMER_MAX, RECORDS_PER_CUSTOMER_MAX
from domain.record import Record
from tests.domain.asking import act, check, identify, merge, signals
from tests.domain.facts import (
    claim,
    command_id,
    edge,
    email,
    linked,
    merged,
    merged_whole,
    on,
    record_id,
    user,
)
from tests.domain.scenario import Scenario, crowd, given

A, B, C, D = user("a"), user("b"), user("c"), user("d")
FOUR = given(on(1, linked(A)), on(2, linked(B)), on(3, linked(C)), on(4, linked(D)))


def test_three_customers_merge_in_one_decision_with_two_edges_from_the_strongest() -> None:
    edges = [edge(9, 1, 2, place=1), edge(9, 1, 3, place=2)]
    FOUR.when(identify(9, A, B, C)).then(
        on(1, merged_whole(9, [1, 2, 3], edges, evidence=[A, B, C])),
        on(2, merged(9, 1, edges, [A, B, C])),
        on(3, merged(9, 1, edges, [A, B, C])),
    )


def test_an_edge_names_its_older_record_first_whoever_was_met_first() -> None:
    edges = [edge(9, 2, 4, place=1), edge(9, 3, 4, place=2)]
    FOUR.when(identify(9, B, C, named=4)).then(
        on(2, merged_whole(9, [2, 3, 4], edges, evidence=[B, C])),
        on(3, merged(9, 2, edges, [B, C])),
        on(4, merged(9, 2, edges, [B, C])),
    )


def test_a_merge_of_merged_customers_stands_on_every_record_and_keeps_old_edges_alive() -> None:
    pairs = FOUR.after(identify(8, A, B)).after(identify(9, C, D))
    new = edge(10, 2, 4)
    pairs.when(identify(10, B, D)).then(
        on(
            1,
            merged_whole(
                10, [1, 2, 3, 4], [new], evidence=[B, D], live=[edge(8, 1, 2), edge(9, 3, 4)]
            ),
        ),
        on(2, merged(10, 1, [new], [B, D])),
        on(3, merged(10, 1, [new], [B, D])),
        on(4, merged(10, 1, [new], [B, D])),
    )


def test_further_evidence_adds_no_edge() -> None:
    FOUR.after(identify(8, A, B)).after(identify(9, B, C)).when(identify(10, A, C)).then_nothing()


def test_the_same_command_decided_twice_gives_the_same_merge_ids() -> None:
    first = FOUR.when(identify(9, A, B, C)).decision
    again = FOUR.when(identify(9, A, B, C)).decision
    other = FOUR.when(identify(10, A, B, C)).decision
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.merge_ids == again.merge_ids
    assert not set(first.merge_ids) & set(other.merge_ids)
    assert len(set(first.merge_ids)) == 2


def component(record: Record) -> tuple[object, ...]:
    return record.root, record.component, {(e.older, e.newer) for e in record.edges}


@pytest.mark.parametrize("order", list(permutations([(A, B), (B, C), (C, D)])))
def test_a_chain_has_the_oldest_root_in_whatever_order_it_was_joined(
    order: tuple[tuple[object, object], ...],
) -> None:
    scenario = FOUR
    for number, (one, other) in enumerate(order, start=10):
        scenario = scenario.after(identify(number, one, other))  # type: ignore[arg-type] # pairs
    members = tuple(record_id(n) for n in (1, 2, 3, 4))
    edges = {(record_id(n), record_id(n + 1)) for n in (1, 2, 3)}
    assert component(scenario.record(1)) == (record_id(1), members, edges)
    for number in (2, 3, 4):
        assert component(scenario.record(number)) == (record_id(1), (), set())


def test_a_younger_record_joined_to_an_old_tree_keeps_the_root() -> None:
    tree = FOUR.after(identify(8, B, C, D))
    assert tree.customers[1].root == record_id(2)
    whole = tree.after(identify(9, D, A))
    assert [customer.root for customer in whole.customers] == [record_id(1)]
    assert len(whole.customers[0].edges) == 3


def test_evidence_holds_keys_and_no_values() -> None:
    decision = FOUR.when(identify(9, A, B)).decision
    assert decision is not None
    for change in decision.changes:
        fields = change.body.model_dump()
        assert fields["evidence"] == (A.key, B.key)
        assert "identifiers" not in fields


def test_merged_customers_answer_to_every_old_id() -> None:
    joined = FOUR.after(identify(8, A, B)).after(identify(9, B, C))
    for number in (1, 2, 3):
        assert joined.when(check(10, named=number)).then_nothing().customer_id == record_id(1)


def left(scenario: Scenario, command: PersonCommand) -> list[tuple[str, str]]:
    decision = scenario.when(command).decision
    assert decision is not None
    return [(item.key, item.reason.value) for item in decision.left_out]


def test_a_customer_may_have_256_records_and_no_more() -> None:
    assert RECORDS_PER_CUSTOMER_MAX == 256
    nearly = crowd(255).happened(*on(901, linked(A))).happened(*on(902, linked(B)))
    full = nearly.after(identify(5, user("1-0"), A))
    assert len(full.record(1).component) == 256
    assert left(full, identify(6, user("1-0"), B)) == [(B.key, "TOO_MANY_RECORDS")]
    assert left(nearly, identify(7, user("1-0"), A, B)) == [(B.key, "TOO_MANY_RECORDS")]
    full.when(identify(5, user("1-0"), A)).then_nothing()
    full.when(merge(8, 1, 902)).then_fails("TOO_MANY_RECORDS")


def test_the_limit_of_records_stops_only_what_would_join() -> None:
    full = crowd(256).happened(*on(902, linked(B)))
    both = (user("1-0"), B)
    assert full.when(check(5, *both, purpose="marketing")).then_nothing().verdict is not None
    decision = full.when(signals(6, *both, source="ads")).decision
    assert decision is not None
    assert [*decision.signals] == ["declined"]


def test_a_customer_may_have_512_identifiers_and_no_more() -> None:
    assert IDENTIFIERS_PER_CUSTOMER_MAX == 512
    nearly = given(on(1, linked(*(user(str(n)) for n in range(511)))))
    more, other = email("more"), email("other")
    nearly.when(identify(5, user("0"), more)).then(claim(more, 1), on(1, linked(more)))
    assert len(left(nearly, identify(6, user("0"), more, other))) == 1
    full = nearly.after(identify(5, user("0"), more))
    for command in (identify(7, user("0"), other), act(8, "given", user("0"), other)):
        assert left(full, command) == [(other.key, "TOO_MANY_IDENTIFIERS")]
    assert full.when(check(9, user("0"), other)).then_nothing().verdict is not None


def test_a_merge_counts_the_identifiers_of_both() -> None:
    names = [user(str(n)) for n in range(512)]
    fits = given(on(1, linked(*names[:500])), on(2, linked(*names[500:])))
    assert fits.when(identify(5, names[0], names[511])).error is None
    one = email("one")
    over = given(on(1, linked(*names[:500])), on(2, linked(*names[500:], one)))
    assert left(over, identify(6, one, names[0])) == [(one.key, "TOO_MANY_IDENTIFIERS")]
    over.when(merge(7, 1, 2)).then_fails("TOO_MANY_IDENTIFIERS")


def test_the_largest_decisions_fit_one_append() -> None:
    names = [email(f"n{n}") for n in range(256)]
    full = crowd(256)
    decision = full.when(act(5, "given", user("1-0"), *names)).decision
    assert decision is not None
    # 256 claims, a link and the act on 256 records; the root holds the link itself.
    assert len(decision.changes) == 256 + 1 + 256
    assert decision.customer_id == record_id(1)
    assert command_id(5) == decision.changes[-1].body.model_dump()["act_id"]
