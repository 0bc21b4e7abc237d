"""Whom identifiers mean: nobody, somebody, several; and what that makes of them."""

from __future__ import annotations

import pytest

from domain.errors import Kind
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.signal_events import SignalsRecorded, TraitsSet
from tests.domain.asking import act, check, identify, set_traits, signal, signals
from tests.domain.facts import (
    claim,
    consent,
    email,
    identifier,
    linked,
    loyalty,
    merged,
    merged_whole,
    on,
    record_id,
    touched,
    user,
)
from tests.domain.facts import edge as edge_of
from tests.domain.scenario import given

NAMESPACES_BY_STRENGTH = [namespace.name for namespace in DEFAULT_IDENTITY_RULES.namespaces]
A, B, C = user("a"), email("b"), loyalty("c")


def test_nobody_known_creates_the_record_that_the_command_names() -> None:
    decision = (
        given().when(identify(1, B, A, new=5)).then(claim(A, 5), claim(B, 5), on(5, linked(A, B)))
    )
    assert decision.created
    assert decision.customer_id == record_id(5)


def test_signals_of_nobody_known_create_the_record_in_the_same_decision() -> None:
    given().when(signals(1, A, new=5)).then(
        claim(A, 5),
        on(5, linked(A)),
        on(5, SignalsRecorded(source="shop", signals=(signal("m1"),))),
    )


def test_a_known_identifier_adds_only_what_is_new() -> None:
    known = given(on(1, linked(A)))
    decision = known.when(identify(2, A, C)).then(claim(C, 1), on(1, linked(C)))
    assert not decision.created
    assert decision.customer_id == record_id(1)


def test_nothing_new_is_nothing_stored() -> None:
    given(on(1, linked(A, B))).when(identify(2, B, A)).then_nothing()


def test_an_identifier_given_twice_is_claimed_once() -> None:
    given().when(identify(1, A, A, new=5)).then(claim(A, 5), on(5, linked(A)))


def test_neither_id_nor_identifier_is_refused() -> None:
    given(on(1, linked(A))).when(identify(2)).then_fails("MISSING_IDENTIFIER")


def test_an_unknown_id_is_refused_even_with_known_identifiers() -> None:
    given(on(1, linked(A))).when(identify(2, A, named=7)).then_fails("UNKNOWN_CUSTOMER")


def test_a_customer_that_nothing_named_is_left_alone() -> None:
    strangers = given(on(1, linked(B)), on(2, linked(C)))
    decision = strangers.when(signals(3, A, new=5)).then(
        claim(A, 5),
        on(5, linked(A)),
        on(5, SignalsRecorded(source="shop", signals=(signal("m1"),))),
    )
    assert decision.customer_id == record_id(5)


JOINED = given(on(1, linked(C)), on(2, linked(A))).after(identify(3, A, C))


def test_the_record_with_the_strongest_identifier_gets_the_event() -> None:
    body = TraitsSet(source="shop", traits={"a": 1})
    JOINED.when(set_traits(4, C, A)).then(on(2, body))
    JOINED.when(set_traits(5, C)).then(on(1, body))


def test_a_record_named_by_its_id_gets_the_event_whatever_identifiers_come_along() -> None:
    body = TraitsSet(source="shop", traits={"a": 1})
    JOINED.when(set_traits(4, A, named=1)).then(on(1, body))
    JOINED.when(set_traits(5, C, named=2)).then(on(2, body))


def test_linking_on_a_record_that_is_not_the_root_touches_the_root() -> None:
    new = email("new")
    JOINED.when(identify(4, A, new)).then(claim(new, 2), on(2, linked(new)), on(1, touched(2)))
    JOINED.when(identify(5, C, new)).then(claim(new, 1), on(1, linked(new)))


@pytest.mark.parametrize("stronger", range(len(NAMESPACES_BY_STRENGTH) - 1))
def test_namespaces_are_ordered_by_strength(stronger: int) -> None:
    strong = identifier(NAMESPACES_BY_STRENGTH[stronger], "z")
    weak = identifier(NAMESPACES_BY_STRENGTH[stronger + 1], "a")
    two = given(on(1, linked(weak)), on(2, linked(strong))).after(identify(3, weak, strong))
    two.when(set_traits(4, weak, strong)).then(on(2, TraitsSet(source="shop", traits={"a": 1})))


def test_an_unknown_namespace_is_the_weakest() -> None:
    odd = identifier("shoe_size", "44")
    two = given(on(1, linked(odd)), on(2, linked(identifier("anonymous_id", "x"))))
    joined = two.after(identify(3, odd, identifier("anonymous_id", "x")))
    joined.when(set_traits(4, odd, identifier("anonymous_id", "x"))).then(
        on(2, TraitsSet(source="shop", traits={"a": 1}))
    )


def test_identifiers_of_two_customers_merge_them() -> None:
    edge = edge_of(3, 1, 2)
    decision = (
        given(on(1, linked(A)), on(2, linked(B)))
        .when(identify(3, A, B))
        .then(
            on(1, merged_whole(3, [1, 2], [edge], evidence=[A, B])),
            on(2, merged(3, 1, [edge], [A, B])),
        )
    )
    assert decision.customer_id == record_id(1)
    assert decision.merge_ids == (edge.merge_id,)


def test_a_new_identifier_that_comes_with_a_merge_goes_to_the_strongest_met() -> None:
    edge = edge_of(3, 1, 2)
    given(on(1, linked(C)), on(2, linked(A))).when(identify(3, C, B, A)).then(
        claim(B, 2),
        on(2, linked(B)),
        on(1, merged_whole(3, [1, 2], [edge], evidence=[C, B, A])),
        on(2, merged(3, 1, [edge], [C, B, A])),
    )


def test_setting_traits_neither_links_nor_merges() -> None:
    two = given(on(1, linked(A)), on(2, linked(B)))
    two.when(set_traits(3, A, B)).then_fails("AMBIGUOUS_CUSTOMER")
    two.when(set_traits(4, A, C)).then_fails("AMBIGUOUS_CUSTOMER")
    two.when(set_traits(5, C)).then_fails("UNKNOWN_CUSTOMER")


def test_a_check_neither_links_nor_merges() -> None:
    two = given(on(1, linked(A)), on(2, linked(B)))
    assert two.when(check(3, A, B, C)).then_nothing().customer_id == record_id(1)
    assert two.when(check(4, C)).then_nothing().customer_id is None


def test_consent_joins_whom_it_names_and_stands_on_all_of_them() -> None:
    edge = edge_of(3, 1, 2)
    given(on(1, linked(A)), on(2, linked(B))).when(act(3, "refused", A, B)).then(
        on(1, merged_whole(3, [1, 2], [edge], evidence=[A, B])),
        on(2, merged(3, 1, [edge], [A, B])),
        on(1, consent(3, "refused")),
        on(2, consent(3, "refused")),
    )


def test_errors_say_what_kind_they_are() -> None:
    two = given(on(1, linked(A)), on(2, linked(B)))
    missing = two.when(set_traits(3, C)).error
    ambiguous = two.when(set_traits(4, A, B)).error
    assert missing is not None
    assert missing.kind is Kind.NOT_FOUND
    assert ambiguous is not None
    assert ambiguous.kind is Kind.REFUSED
