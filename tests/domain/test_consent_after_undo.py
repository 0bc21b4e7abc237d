"""Consent in all its forms across a merge and its undo (R6, R9): what binds whom afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from domain.commands import LinkHousehold, RecordTcfChoices
from domain.consent import ConsentState, LawfulBasis, Standing
from domain.gate import gate_of
from domain.ids import WORKSPACE_STREAM
from domain.rules import Rules, fold_rules
from domain.workspace_events import PurposeDefined, SourceRegistered
from tests.domain.asking import act, envelope, identify, signal, signals, undo
from tests.domain.facts import LATE, at, edge, email, linked, on, record_id, recorded, user
from tests.domain.scenario import Scenario, given

A, B = user("a"), email("b")
AB = edge(10, 1, 2)
MERGED = identify(10, A, B)
PARTED = undo(20, AB.merge_id, named=1)
HOME = "0000aaaa-0000-7000-8000-000000000000"


def rules() -> Rules:
    bodies = [
        PurposeDefined(purpose="service", basis=LawfulBasis.CONTRACT),
        PurposeDefined(purpose="contact", basis=LawfulBasis.CONSENT),
        PurposeDefined(purpose="marketing", basis=LawfulBasis.CONSENT, parent="contact"),
        SourceRegistered(
            source="shop",
            purposes=("service",),
            consent_categories={"Advertising": ("marketing",)},
            tcf_purposes={"1": ("marketing",)},
        ),
    ]
    events = [recorded(WORKSPACE_STREAM, body, revision=n) for n, body in enumerate(bodies, 1)]
    return fold_rules(Rules(), events)


TWO = given(on(1, linked(A)), on(2, linked(B))).under(rules())


def standing(scenario: Scenario, number: int, minute: float = LATE) -> Standing:
    (customer,) = (c for c in scenario.customers if record_id(number) in c.records)
    gate = gate_of(scenario.rules, customer.records, at=at(minute))
    return gate.standing(scenario.rules.purposes["marketing"])


def is_open(scenario: Scenario, minute: float = LATE) -> list[bool]:
    """Judge both sides."""
    return [standing(scenario, number, minute).is_open for number in (1, 2)]


def tcf(number: int, *identifiers: Any, consented: set[int]) -> RecordTcfChoices:
    return RecordTcfChoices(
        **envelope(number, {"source": "shop", "happened_at": at(24 * 60)}),
        identifiers=identifiers,
        consented=frozenset(consented),
        interests=frozenset(),
    )


def banner(number: int, *identifiers: Any, agrees: bool) -> Any:
    sent = [signal(f"m{number}", 50)]
    return signals(
        number, *identifiers, messages=sent, category_preferences={"Advertising": agrees}
    )


CLOSED_WHILE_MERGED = {
    "withdrawn": act(12, "withdrawn", B, happened_at=at(60)),
    "revoked": act(12, "revoked", B, happened_at=at(60)),
    "on the parent": act(12, "refused", B, purpose="contact", happened_at=at(60)),
    "expired, by import": act(12, "expired", B, is_imported=True, happened_at=at(60)),
    "terminated, by import": act(12, "terminated", B, is_imported=True, happened_at=at(60)),
    "by a banner": banner(12, B, agrees=False),
    "by a TCF string": tcf(12, B, consented=set()),
}


@pytest.mark.parametrize("closing", CLOSED_WHILE_MERGED.values(), ids=CLOSED_WHILE_MERGED)
def test_what_closed_while_merged_stays_closed_on_both_sides(closing: Any) -> None:
    granted = TWO.after(act(8, "given", A)).after(act(9, "given", B))
    merged = granted.after(MERGED)
    assert is_open(merged) == [True, True]
    parted = merged.after(closing).after(PARTED)
    assert is_open(parted) == [False, False]


GRANTED_WHILE_MERGED = {
    "said": act(12, "given", B, happened_at=at(60)),
    "by import": act(12, "given", B, is_imported=True, happened_at=at(60)),
    "to a banner": banner(12, B, agrees=True),
    "to a TCF string": tcf(12, B, consented={1}),
}


@pytest.mark.parametrize("grant", GRANTED_WHILE_MERGED.values(), ids=GRANTED_WHILE_MERGED)
def test_a_grant_made_while_merged_stays_with_the_side_that_it_was_said_to(grant: Any) -> None:
    merged = TWO.after(MERGED).after(grant)
    assert is_open(merged) == [True, True]
    parted = merged.after(PARTED)
    assert is_open(parted) == [False, True]
    assert not parted.record(1).acts
    assert standing(parted, 1).state is ConsentState.UNKNOWN


def test_a_grant_that_ran_out_stays_closed_after_an_undo() -> None:
    until = act(8, "given", A, valid_until=at(100))
    for parted in (
        TWO.after(until).after(MERGED).after(PARTED),
        TWO.after(MERGED).after(until).after(PARTED),
    ):
        assert is_open(parted, 99) == [True, False]
        assert is_open(parted, 100) == [False, False]
        assert standing(parted, 1, 100).state is ConsentState.EXPIRED
        assert standing(parted, 2, 100).state is ConsentState.UNKNOWN


def test_what_an_undo_opens_or_closes_is_told_as_of_when_it_is_asked() -> None:
    lapsed = TWO.after(act(8, "given", A, valid_until=at(LATE))).after(MERGED)
    standing_yet = TWO.after(act(8, "given", A, valid_until=at(LATE + 1))).after(MERGED)
    told = []
    for scenario in (lapsed, standing_yet):
        decision = scenario.when(PARTED).decision
        assert decision is not None
        assert decision.consequences is not None
        told.append([c.open_before for c in decision.consequences.consents])
    assert told == [[False], [True]]


def test_an_act_that_says_nothing_leaves_with_the_side_that_it_was_said_to() -> None:
    parted = TWO.after(MERGED).after(act(12, "requested", B)).after(PARTED)
    states = [standing(parted, number).state for number in (1, 2)]
    assert states == [ConsentState.UNKNOWN, ConsentState.REQUESTED]


def test_a_household_stays_with_the_record_that_it_was_linked_to() -> None:
    joined = LinkHousehold(
        **envelope(12, {"named": 2, "source": "shop", "household_id": HOME, "happened_at": at(1)})
    )
    parted = TWO.after(MERGED).after(joined).after(PARTED)
    assert [HOME in parted.record(number).households for number in (1, 2)] == [False, True]


def test_an_act_binds_nobody_whose_identifier_was_left_out() -> None:
    apart = TWO.after(MERGED).after(PARTED)
    decision = apart.when(act(30, "refused", A, B)).decision
    assert decision is not None
    assert [(item.key, item.reason.value) for item in decision.left_out] == [(B.key, "SEPARATED")]
    assert {change.stream.key for change in decision.changes} == {record_id(1)}
