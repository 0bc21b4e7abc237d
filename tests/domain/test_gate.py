"""The gate in (R11): who may enter, what a closed gate leaves behind, and what passes none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.consent import ConsentState, LawfulBasis
from domain.identity import Identifier
from domain.identity_events import IdentifiersLinked
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from tests.domain.asking import act, check, identify, set_traits, signal, signals
from tests.domain.facts import (
    RULES,
    at,
    claim,
    consent,
    email,
    linked,
    on,
    record_id,
    rules_of,
    user,
)
from tests.domain.scenario import Scenario, given

A, B, C = user("a"), email("b"), user("c")
KNOWN = given(on(1, linked(A)))
TWO = given(on(1, linked(A)), on(2, linked(C)))


def opened(scenario: Scenario, *identifiers: Identifier) -> bool:
    verdict = scenario.when(check(99, *identifiers)).then_nothing().verdict
    assert verdict is not None
    return verdict.is_open


def declined(*message_ids: str, source: str = "ads") -> SignalsDeclined:
    return SignalsDeclined(source=source, reason="PURPOSE_CLOSED", message_ids=message_ids)


def test_one_open_purpose_of_the_source_lets_a_signal_in() -> None:
    body = SignalsRecorded(source="shop", signals=(signal("m1"),))
    KNOWN.when(signals(2, A, source="shop")).then(on(1, body))


def test_a_closed_gate_leaves_a_trace_without_payload_for_somebody_known() -> None:
    messages = [signal("m1", 7, properties={"secret": 1}), signal("m2", 5)]
    outcome = KNOWN.when(signals(2, A, source="ads", messages=messages))
    decision = outcome.then(on(1, declined("m1", "m2")))
    assert decision.signals == ("declined", "declined")
    assert decision.changes[0].happened_at == at(5)
    assert decision.customer_id == record_id(1)


def test_a_closed_gate_leaves_nothing_for_somebody_unknown() -> None:
    decision = given().when(signals(2, A, source="ads")).then_nothing()
    assert decision.customer_id is None
    assert not decision.created
    assert decision.signals[0] == "declined"


def test_a_declined_signal_claims_nothing() -> None:
    KNOWN.when(signals(2, A, B, source="ads")).then(on(1, declined("m1")))


def test_a_declined_signal_merges_nobody() -> None:
    decision = TWO.when(signals(3, A, C, source="ads")).then(on(1, declined("m1")))
    assert decision.merge_ids == ()


def test_consent_opens_the_gate() -> None:
    body = SignalsRecorded(source="ads", signals=(signal("m2"),))
    KNOWN.after(act(2, "given", A)).when(signals(3, A, source="ads", messages=["m2"])).then(
        on(1, body)
    )


def test_a_withdrawal_closes_it_again() -> None:
    granted = KNOWN.after(act(2, "given", A, happened_at=at(2)))
    closed = granted.after(act(3, "withdrawn", A, happened_at=at(3)))
    closed.when(signals(4, A, source="ads")).then(on(1, declined("m1")))
    closed.when(signals(5, A, source="shop")).then(
        on(1, SignalsRecorded(source="shop", signals=(signal("m1"),)))
    )


def test_an_objection_closes_a_purpose_of_legitimate_interest_for_the_gate() -> None:
    rules = rules_of({"analytics": LawfulBasis.LEGITIMATE_INTEREST}, {"web": ["analytics"]})
    scenario = KNOWN.under(rules)
    assert scenario.when(signals(2, A, source="web")).error is None
    objected = scenario.after(act(3, "refused", A, purpose="analytics"))
    objected.when(signals(4, A, source="web")).then(on(1, declined("m1", source="web")))


def test_the_gate_of_two_people_at_once_is_closed_by_what_either_refused() -> None:
    one_granted = TWO.after(act(3, "given", A)).after(act(4, "refused", C))
    one_granted.when(signals(5, A, C, source="ads")).then(on(1, declined("m1")))


def test_an_unknown_source_is_refused_whoever_it_is_about() -> None:
    KNOWN.when(signals(2, A, source="nobody")).then_fails("UNKNOWN_SOURCE")
    given().when(identify(3, A, source="nobody")).then_fails("UNKNOWN_SOURCE")
    KNOWN.when(set_traits(4, A, source="nobody")).then_fails("UNKNOWN_SOURCE")


def test_identify_at_a_closed_gate_is_refused() -> None:
    KNOWN.when(identify(2, A, B, source="ads")).then_fails("PURPOSE_CLOSED")
    given().when(identify(3, A, source="ads")).then_fails("PURPOSE_CLOSED")


def test_identify_from_a_publisher_is_declined_instead() -> None:
    command = identify(
        2, A, B, source="ads", traits={"secret": 1}, message_id="m1", on_closed="decline"
    )
    decision = KNOWN.when(command).then(on(1, declined("m1")))
    assert [*decision.signals] == ["declined"]
    assert given().when(command).then_nothing().customer_id is None


def test_identify_declined_without_a_message_id_is_still_done_once() -> None:
    command = identify(2, A, source="ads", on_closed="decline")
    once = KNOWN.after(command)
    assert once.when(command).then_nothing().repeated_revision == once.revision


def test_traits_pass_the_gate() -> None:
    KNOWN.when(set_traits(2, A, source="ads")).then_fails("PURPOSE_CLOSED")
    KNOWN.when(set_traits(3, A, source="shop")).then(
        on(1, TraitsSet(source="shop", traits={"a": 1}))
    )


@pytest.mark.parametrize("state", ["given", "refused", "withdrawn"])
def test_consent_passes_no_gate_and_creates_a_record(state: str) -> None:
    decision = (
        given()
        .when(act(2, state, A, B, new=5))
        .then(
            claim(A, 5),
            claim(B, 5),
            on(5, IdentifiersLinked(source=None, keys=(A.key, B.key), identifiers=(A, B))),
            on(5, consent(2, state)),
        )
    )
    assert decision.created
    assert decision.customer_id == record_id(5)


def test_consent_for_an_unknown_purpose_is_refused() -> None:
    KNOWN.when(act(2, "given", A, purpose="nothing")).then_fails("UNKNOWN_PURPOSE")
    KNOWN.when(check(3, A, purpose="nothing")).then_fails("UNKNOWN_PURPOSE")


def test_a_check_says_what_it_stands_on() -> None:
    granted = KNOWN.after(act(2, "given", A, notice_version="2026-01"))
    verdict = granted.when(check(3, A)).then_nothing().verdict
    assert verdict is not None
    assert (verdict.is_open, verdict.state, verdict.reason) == (True, ConsentState.GIVEN, "OPEN")
    assert verdict.notice_version == "2026-01"
    assert verdict.act_event_id == granted.record(1).acts[0].event_id
    assert verdict.rules_version == granted.rules.version


@pytest.mark.parametrize(("state", "reason"), [("refused", "REFUSED"), ("withdrawn", "WITHDRAWN")])
def test_a_check_says_why_not(state: str, reason: str) -> None:
    verdict = KNOWN.after(act(2, state, A)).when(check(3, A)).then_nothing().verdict
    assert verdict is not None
    assert (verdict.is_open, verdict.state, verdict.reason) == (False, ConsentState(state), reason)


def test_a_check_of_somebody_without_acts() -> None:
    for scenario in (given(), KNOWN):
        for purpose, is_open in (("marketing", False), ("analytics", True), ("service", True)):
            verdict = scenario.when(check(3, A, purpose=purpose)).then_nothing().verdict
            assert verdict is not None
            assert (verdict.is_open, verdict.state) == (is_open, ConsentState.UNKNOWN)
            assert verdict.reason == ("OPEN" if is_open else "NOT_GIVEN")


def test_a_recorded_verdict_stands_on_the_root() -> None:
    joined = TWO.after(identify(3, A, C)).after(act(4, "given", A, notice_version="v7"))
    decision = joined.when(check(5, C, record=True)).decision
    assert decision is not None
    assert decision.verdict is not None
    (change,) = decision.changes
    assert change.stream.key == record_id(1)
    body = change.body.model_dump()
    assert (body["is_open"], body["purpose"], body["notice_version"]) == (True, "marketing", "v7")
    assert body["act_event_id"] == decision.verdict.act_event_id


def test_of_several_customers_all_must_allow_it_joined_or_not() -> None:
    strict = replace(RULES, identity=DEFAULT_IDENTITY_RULES)
    people = given(on(1, linked(user("1"))), on(2, linked(user("2"))), on(3, linked(B)))
    people = people.under(strict).after(act(4, "given", user("1")))
    for others in ([B], [user("2")], [B, user("2")]):
        for asked in ([user("1"), *others], [*others, user("1")]):
            assert not opened(people, *asked)
    agreed = people.after(act(5, "given", B)).after(act(6, "given", user("2")))
    assert opened(agreed, user("1"), B, user("2"))
    closed = agreed.after(act(7, "withdrawn", user("2"), happened_at=at(9)))
    assert not opened(closed, user("1"), B, user("2"))


def test_a_verdict_on_several_customers_stands_on_the_root_of_each() -> None:
    decision = TWO.when(check(3, A, C, record=True)).decision
    assert decision is not None
    assert [change.stream.key for change in decision.changes] == [record_id(1), record_id(2)]


def test_a_verdict_on_nobody_cannot_be_recorded() -> None:
    given().when(check(3, A, record=True)).then_fails("UNKNOWN_CUSTOMER")


def test_a_repeated_check_is_judged_again() -> None:
    granted = KNOWN.after(act(2, "given", A, happened_at=at(2)))
    asked = granted.after(check(3, A, record=True))
    closed = asked.after(act(4, "withdrawn", A, happened_at=at(4)))
    decision = closed.when(check(3, A, record=True)).decision
    assert decision is not None
    assert decision.verdict is not None
    assert not decision.verdict.is_open
    assert len(decision.changes) == 1
