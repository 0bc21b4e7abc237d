"""Choices that sources pass on with what they send: recorded first, once, and never over a no."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.commands import RecordTcfChoices
from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import ConsentChanged
from domain.ids import WORKSPACE_STREAM, derived_id
from domain.rules import Rules, fold_rules
from domain.signal_events import SignalsDeclined, SignalsRecorded
from domain.workspace_events import PurposeDefined, SourceRegistered
from tests.domain.scenario import (
    LATE,
    Scenario,
    _asked,
    act,
    at,
    check,
    command_id,
    email,
    given,
    identify,
    linked,
    on,
    recorded,
    signal,
    signals,
)

A, B = email("a"), email("b")
PURPOSES = {
    "marketing": LawfulBasis.CONSENT,
    "analytics": LawfulBasis.LEGITIMATE_INTEREST,
    "service": LawfulBasis.CONTRACT,
}
CATEGORIES = {
    "Advertising": ("marketing",),
    "Offers": ("marketing",),
    "Functional": ("service",),
    "Measuring": ("analytics",),
}


def rules() -> Rules:
    bodies = [PurposeDefined(purpose=name, basis=basis) for name, basis in PURPOSES.items()]
    sources = [
        SourceRegistered(
            source=name,
            purposes=purposes,
            consent_categories=CATEGORIES,
            tcf_purposes={"1": ("marketing",), "7": ("analytics",)},
        )
        for name, purposes in (
            ("ads", ("marketing",)),
            ("web", ("analytics",)),
            ("app", ("marketing", "service")),
        )
    ]
    places = enumerate([*bodies, *sources], start=1)
    return fold_rules(Rules(), [recorded(WORKSPACE_STREAM, b, revision=r) for r, b in places])


NOBODY = given().under(rules())
KNOWN = given(on(1, linked(A))).under(rules())


def choosing(
    number: int, minute: float = 1, *, source: str = "ads", message: str = "", **chosen: bool
) -> object:
    messages = [signal(message or f"m{number}", minute)]
    return signals(number, A, source=source, messages=messages, category_preferences=chosen)


def acts(scenario: Scenario, command: object) -> list[tuple[str, str]]:
    """Say which acts a command comes to, as state and purpose."""
    decision = scenario.when(command).decision  # type: ignore[arg-type] # made by choosing
    assert decision is not None
    bodies = [change.body for change in decision.changes]
    return [(b.state.value, b.purpose) for b in bodies if isinstance(b, ConsentChanged)]


def is_open(scenario: Scenario, purpose: str = "marketing") -> bool:
    verdict = scenario.when(check(99, A, purpose=purpose)).then_nothing().verdict
    assert verdict is not None
    return verdict.is_open


def test_a_yes_that_comes_with_a_signal_lets_it_in() -> None:
    decision = KNOWN.when(choosing(2, Advertising=True)).decision  # type: ignore[arg-type] # ours
    assert decision is not None
    recorded_act, recorded_signal = (change.body for change in decision.changes)
    assert isinstance(recorded_act, ConsentChanged)
    assert recorded_act.state is ConsentState.GIVEN
    assert recorded_act.source == "ads"
    assert recorded_act.act_id == derived_id(command_id(2), "choice:marketing")
    assert isinstance(recorded_signal, SignalsRecorded)


def test_a_no_that_comes_with_a_signal_keeps_it_out() -> None:
    agreed = KNOWN.after(choosing(2, 1, Advertising=True))  # type: ignore[arg-type] # ours
    closed = agreed.when(choosing(3, 2, Advertising=False)).decision  # type: ignore[arg-type] # ours
    assert closed is not None
    withdrawn, declined = (change.body for change in closed.changes)
    assert isinstance(withdrawn, ConsentChanged)
    assert withdrawn.state is ConsentState.WITHDRAWN
    assert isinstance(declined, SignalsDeclined)


def test_a_no_without_a_yes_before_is_a_refusal() -> None:
    assert acts(KNOWN, choosing(2, Advertising=False)) == [("refused", "marketing")]


def test_a_source_that_repeats_itself_records_nothing() -> None:
    agreed = KNOWN.after(choosing(2, 1, Advertising=True))  # type: ignore[arg-type] # ours
    assert acts(agreed, choosing(3, 2, Advertising=True)) == []
    refused = KNOWN.after(choosing(2, 1, Advertising=False))  # type: ignore[arg-type] # ours
    assert acts(refused, choosing(3, 2, Advertising=False)) == []


def test_a_change_of_mind_at_the_same_source_counts_each_time() -> None:
    scenario = KNOWN
    for number, is_yes in enumerate((True, False, True, False), start=2):
        scenario = scenario.after(choosing(number, number, Advertising=is_yes))  # type: ignore[arg-type] # ours
        assert is_open(scenario) is is_yes


def test_a_banner_that_was_not_told_of_a_withdrawal_does_not_undo_it() -> None:
    agreed = KNOWN.after(choosing(2, 1, Advertising=True))  # type: ignore[arg-type] # ours
    closed = agreed.after(act(3, "withdrawn", A, happened_at=at(2)))
    assert acts(closed, choosing(4, 3, Advertising=True)) == []
    assert acts(closed, choosing(4, 3, source="web", Advertising=True)) == []
    toggled = closed.after(choosing(4, 3, Advertising=False))  # type: ignore[arg-type] # ours
    assert acts(toggled, choosing(5, 4, Advertising=True)) == [("given", "marketing")]


def test_a_yes_where_one_stands_already_records_nothing() -> None:
    agreed = KNOWN.after(act(2, "given", A))
    assert acts(agreed, choosing(3, 2, Advertising=True)) == []


def test_a_no_to_one_of_two_categories_is_a_no() -> None:
    assert acts(KNOWN, choosing(2, Advertising=True, Offers=False)) == [("refused", "marketing")]


def test_a_category_that_is_not_mapped_and_a_purpose_of_contract_say_nothing() -> None:
    assert acts(KNOWN, choosing(2, source="app", Unknown=True, Functional=False)) == []


def test_a_message_that_came_before_says_nothing_again() -> None:
    agreed = KNOWN.after(choosing(2, 1, Advertising=True))  # type: ignore[arg-type] # ours
    again = choosing(3, 9, message="m2", Advertising=False)
    assert acts(agreed, again) == []


def test_somebody_unknown_who_refuses_what_is_closed_anyway_leaves_nothing() -> None:
    NOBODY.when(choosing(2, Advertising=False)).then_nothing()  # type: ignore[arg-type] # ours


def test_an_objection_of_somebody_unknown_is_kept() -> None:
    objected = NOBODY.after(choosing(2, source="web", Measuring=False))  # type: ignore[arg-type] # ours
    assert not is_open(objected, "analytics")


def test_choices_come_with_identify_too() -> None:
    command = identify(
        2, A, B, source="ads", category_preferences={"Advertising": True}, on_closed="decline"
    )
    decision = KNOWN.when(command).decision
    assert decision is not None
    assert not any(isinstance(change.body, SignalsDeclined) for change in decision.changes)
    assert acts(KNOWN, command) == [("given", "marketing")]


def tcf(number: int, day: int, *, consented: set[int], interests: set[int]) -> RecordTcfChoices:
    return RecordTcfChoices(
        **_asked(number, {}),
        identifiers=(A,),
        source="ads",
        consented=frozenset(consented),
        interests=frozenset(interests),
        happened_at=at(0).replace(hour=0) + timedelta(days=day),
        evidence={"tcf_string": "C…"},
    )


def test_a_tcf_string_says_yes_and_no_by_the_map_of_the_source() -> None:
    said = KNOWN.after(tcf(2, 0, consented={1}, interests=set()))
    assert is_open(said)
    assert not is_open(said, "analytics")
    upheld = KNOWN.after(tcf(2, 0, consented=set(), interests={7}))
    assert not is_open(upheld)
    assert is_open(upheld, "analytics")


def test_the_same_tcf_string_twice_changes_nothing() -> None:
    said = KNOWN.after(tcf(2, 0, consented={1}, interests={7}))
    again = said.when(tcf(3, 0, consented={1}, interests={7}))
    assert again.then_nothing().ignored == "ALREADY_SAID"


@pytest.mark.parametrize("minutes", [-12 * 60, -1, 0, 30, 12 * 60 - 1])
def test_a_tcf_string_never_beats_what_closed_on_its_day(minutes: int) -> None:
    closed = KNOWN.after(act(2, "withdrawn", A, happened_at=at(minutes)), recorded_at=at(LATE))
    same_day = closed.after(tcf(3, 0, consented={1}, interests={7}))
    assert not is_open(same_day)


def test_a_tcf_string_of_the_next_day_counts() -> None:
    closed = KNOWN.after(act(2, "withdrawn", A, happened_at=at(-24 * 60)))
    assert is_open(closed.after(tcf(3, 0, consented={1}, interests={7})))


def test_a_no_in_a_tcf_string_closes_what_was_given_on_its_day() -> None:
    agreed = KNOWN.after(act(2, "given", A, happened_at=at(-1)))
    assert not is_open(agreed.after(tcf(3, 0, consented=set(), interests=set())))


def test_what_is_given_on_the_day_of_a_no_in_a_tcf_string_does_not_beat_it() -> None:
    closed = KNOWN.after(tcf(2, 0, consented=set(), interests=set()), recorded_at=at(LATE))
    assert not is_open(closed.after(act(3, "given", A, happened_at=at(60)), recorded_at=at(LATE)))
    assert is_open(closed.after(act(3, "given", A, happened_at=at(LATE)), recorded_at=at(LATE)))


def test_of_a_day_precise_agreement_no_hour_is_believed() -> None:
    closed = KNOWN.after(act(2, "withdrawn", A, happened_at=at(-60)))
    assert is_open(closed.after(act(3, "given", A, happened_at=at(60))))
    assert not is_open(closed.after(act(3, "given", A, happened_at=at(60), is_day_precise=True)))
