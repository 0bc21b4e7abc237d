"""Nobody is welded together: what is left out of a set of identifiers, and that it is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.identity_events import IdentifiersLinked, IdentifierTombstoned
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.ids import identifier_stream
from domain.signal_events import SignalsRecorded, TraitsSet
from tests.domain.asking import check, identify, link, set_traits, signal, signals
from tests.domain.facts import (
    RULES,
    Placed,
    claim,
    email,
    identifier,
    left_out,
    linked,
    on,
    record_id,
    user,
)
from tests.domain.scenario import Scenario, given

STRICT = replace(RULES, identity=DEFAULT_IDENTITY_RULES)
ANNE, BERT = user("anne"), user("bert")
FAMILY = email("family@home.test")
TABLET = identifier("device_id", "tablet")


def strictly(*happened: Placed) -> Scenario:
    return given(*happened).under(STRICT)


def recorded(*unused: object) -> SignalsRecorded:
    return SignalsRecorded(source="shop", signals=(signal("m1"),), left_out=unused)


def test_a_family_address_does_not_weld_two_people() -> None:
    two = strictly(on(1, linked(ANNE, FAMILY)), on(2, linked(BERT)))
    dropped = left_out("TOO_MANY_VALUES", FAMILY)
    decision = two.when(signals(3, BERT, FAMILY)).then(on(2, recorded(*dropped)))
    assert decision.customer_id == record_id(2)
    assert decision.left_out == dropped
    assert not decision.merge_ids


def test_a_second_user_of_a_shared_device_becomes_a_customer_of_its_own() -> None:
    one = strictly(on(1, linked(ANNE, TABLET)))
    decision = one.when(signals(3, TABLET, BERT, new=5)).then(
        claim(BERT, 5),
        on(5, linked(BERT)),
        on(5, recorded(*left_out("TOO_MANY_VALUES", TABLET))),
    )
    assert decision.created


def test_what_came_on_the_device_alone_joins_the_first_who_logs_in() -> None:
    browsing = strictly(on(1, linked(TABLET)))
    browsing.when(signals(3, TABLET, ANNE)).then(
        claim(ANNE, 1), on(1, linked(ANNE)), on(1, recorded())
    )


def test_a_second_value_of_a_namespace_that_admits_one_is_left_out() -> None:
    one = strictly(on(1, linked(ANNE, FAMILY)))
    dropped = left_out("TOO_MANY_VALUES", BERT)
    one.when(signals(3, BERT, FAMILY, named=1)).then(on(1, recorded(*dropped)))


def test_the_event_that_carries_what_was_said_says_what_was_left_out() -> None:
    two = strictly(on(1, linked(ANNE, FAMILY)), on(2, linked(BERT)))
    dropped = left_out("TOO_MANY_VALUES", FAMILY)
    two.when(identify(3, BERT, FAMILY, traits={"a": 1})).then(
        on(2, TraitsSet(source="shop", traits={"a": 1}, left_out=dropped))
    )
    new = identifier("device_id", "new")
    body = IdentifiersLinked(source="shop", keys=(new.key,), identifiers=(new,), left_out=dropped)
    two.when(identify(4, BERT, FAMILY, new)).then(claim(new, 2), on(2, body))


def test_nothing_but_something_left_out_is_no_event_but_an_answer() -> None:
    two = strictly(on(1, linked(ANNE, FAMILY)), on(2, linked(BERT)))
    decision = two.when(identify(3, BERT, FAMILY)).then_nothing()
    assert decision.left_out == left_out("TOO_MANY_VALUES", FAMILY)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_merge_counts_the_values_of_both_sides(count: int) -> None:
    many = [email(f"a{n}@x.test") for n in range(4)]
    more = [email(f"b{n}@x.test") for n in range(count - 4)]
    two = strictly(on(1, linked(ANNE, *many)), on(2, linked(TABLET, *more)))
    decision = two.when(identify(3, ANNE, TABLET)).decision
    assert decision is not None
    assert bool(decision.merge_ids) is (count <= 5)


def test_the_order_in_which_identifiers_come_changes_nothing() -> None:
    two = strictly(on(1, linked(ANNE, FAMILY)), on(2, linked(BERT, TABLET)))
    one = two.when(signals(3, BERT, FAMILY, TABLET, ANNE)).decision
    other = two.when(signals(3, ANNE, TABLET, FAMILY, BERT)).decision
    assert one is not None
    assert other is not None
    assert one == other
    assert {item.key for item in one.left_out} == {BERT.key, TABLET.key}


def test_linking_is_all_or_nothing() -> None:
    two = strictly(on(1, linked(ANNE, FAMILY)), on(2, linked(BERT)))
    two.when(link(3, BERT, FAMILY)).then_fails("IDENTIFIER_TOO_MANY_VALUES")
    two.when(link(4, TABLET, named=1)).then(claim(TABLET, 1), on(1, linked(TABLET)))
    two.when(link(5, TABLET)).then_fails("UNKNOWN_CUSTOMER")
    two.when(link(6, TABLET, named=1, source="ads")).then_fails("PURPOSE_CLOSED")


def test_traits_are_not_set_where_it_is_not_sure_on_whom() -> None:
    two = strictly(on(1, linked(ANNE, FAMILY)), on(2, linked(BERT)))
    two.when(set_traits(3, BERT, FAMILY)).then_fails("AMBIGUOUS_CUSTOMER")


def erased(item: object) -> Placed:
    key = item.key  # type: ignore[attr-defined] # an Identifier
    return identifier_stream(key), IdentifierTombstoned(record_id=record_id(9))


def test_an_identifier_of_somebody_erased_is_dropped_from_what_has_others() -> None:
    one = strictly(on(1, linked(ANNE)), erased(TABLET))
    one.when(signals(3, ANNE, TABLET)).then(on(1, recorded(*left_out("ERASED", TABLET))))
    one.when(set_traits(4, ANNE, TABLET)).then(
        on(1, TraitsSet(source="shop", traits={"a": 1}, left_out=left_out("ERASED", TABLET)))
    )


def test_a_check_says_by_which_identifiers_nobody_was_judged() -> None:
    two = strictly(on(1, linked(ANNE)), on(2, linked(BERT)), erased(TABLET))
    asked = check(3, ANNE, BERT, TABLET)
    assert two.when(asked).then_nothing().left_out == left_out("ERASED", TABLET)
    recorded_too = asked.model_copy(update={"record": True})
    decision = two.when(recorded_too).decision
    assert decision is not None
    assert decision.left_out == left_out("ERASED", TABLET)


def test_what_came_with_erased_identifiers_alone_is_refused() -> None:
    strictly(erased(TABLET)).when(signals(3, TABLET)).then_fails("IDENTIFIER_ERASED")


def test_what_the_edge_blocked_is_said_too() -> None:
    one = strictly(on(1, linked(ANNE)))
    blocked = left_out("BLOCKED", user("null"))
    one.when(signals(3, ANNE, left_out=blocked)).then(on(1, recorded(*blocked)))
    one.when(signals(4, left_out=blocked)).then_fails("IDENTIFIER_BLOCKED")


def test_a_customer_over_its_limits_by_an_explicit_merge_still_takes_what_fits() -> None:
    both = strictly(on(1, linked(ANNE, BERT)), on(2, linked(TABLET)))
    decision = both.when(identify(3, ANNE, TABLET)).decision
    assert decision is not None
    assert decision.merge_ids
