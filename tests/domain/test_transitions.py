"""Which act may follow which: the table is total, never holds up a no, and decides as it says."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from domain.consent import CLOSING, ConsentState
from domain.transitions import ACTS, MAY_ACT, TRANSITIONS, ActedBy, Outcome
from tests.domain.asking import act
from tests.domain.facts import at, consent, email, linked, on
from tests.domain.scenario import Scenario, given

A = email("a")
KNOWN = given(on(1, linked(A)))
PAGE = Path(__file__).parents[2] / "docs" / "consent.md"

HISTORIES: dict[ConsentState, tuple[tuple[str, dict[str, object]], ...]] = {
    ConsentState.UNKNOWN: (),
    ConsentState.RENEWED: (("given", {}), ("renewed", {})),
    ConsentState.EXPIRED: (("given", {"valid_until": at(3)}),),
    ConsentState.TERMINATED: (("requested", {}), ("terminated", {})),
}
"""How a state comes about that is not brought about by its act alone."""


def standing_at(state: ConsentState) -> Scenario:
    scenario = KNOWN
    for number, (name, said) in enumerate(HISTORIES.get(state, ((state.value, {}),)), start=10):
        scenario = scenario.after(act(number, name, A, happened_at=at(number / 10), **said))
    return scenario


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == {*product(ConsentState, ACTS)}
    assert set(MAY_ACT) == set(ACTS)


@pytest.mark.parametrize("state", ConsentState)
def test_what_closes_is_never_refused_and_never_ignored(state: ConsentState) -> None:
    assert {TRANSITIONS[state, closing].outcome for closing in CLOSING} == {Outcome.ALLOWED}


@pytest.mark.parametrize(("state", "next_state"), [*product(ConsentState, ACTS)])
def test_every_transition_is_decided_as_the_table_says(
    state: ConsentState, next_state: ConsentState
) -> None:
    scenario = standing_at(state)
    transition = TRANSITIONS[state, next_state]
    outcome = scenario.when(act(20, next_state.value, A, happened_at=at(5)))
    match transition.outcome:
        case Outcome.ALLOWED:
            outcome.then(on(1, consent(20, next_state.value)))
        case Outcome.IGNORED:
            assert outcome.then_nothing().ignored == transition.reason
        case Outcome.REFUSED:
            outcome.then_fails(transition.reason)


@pytest.mark.parametrize(("state", "next_state"), [*product(ConsentState, ACTS)])
def test_an_imported_act_follows_whatever_stands(
    state: ConsentState, next_state: ConsentState
) -> None:
    command = act(20, next_state.value, A, happened_at=at(0), is_imported=True)
    standing_at(state).when(command).then(on(1, consent(20, next_state.value, is_imported=True)))


def test_an_act_that_was_imported_before_changes_nothing() -> None:
    imported = KNOWN.after(act(20, "given", A, happened_at=at(0), is_imported=True))
    again = act(21, "given", A, happened_at=at(0), is_imported=True)
    assert imported.when(again).then_nothing().ignored == "ALREADY_IMPORTED"
    later = act(22, "given", A, happened_at=at(1), is_imported=True)
    imported.when(later).then(on(1, consent(22, "given", is_imported=True)))
    other = act(23, "refused", A, happened_at=at(0), is_imported=True)
    imported.when(other).then(on(1, consent(23, "refused", is_imported=True)))


@pytest.mark.parametrize(("state", "actor"), [*product(ACTS, ActedBy)])
def test_who_may_bring_a_state_about(state: ConsentState, actor: ActedBy) -> None:
    scenario = standing_at(ConsentState.EXPIRED)
    outcome = scenario.when(act(20, state.value, A, happened_at=at(5), acted_by=actor))
    if actor in MAY_ACT[state]:
        assert outcome.error is None
    else:
        outcome.then_fails("INVALID_ACTOR")


@pytest.mark.parametrize("state", ["unknown"])
def test_no_act_brings_the_unknown_about(state: str) -> None:
    KNOWN.when(act(20, state, A)).then_fails("INVALID_CONSENT_STATE")


def test_only_an_agreement_has_a_validity_and_it_ends_after_it_began() -> None:
    KNOWN.when(act(20, "given", A, valid_until=at(1))).then_fails("INVALID_VALIDITY")
    KNOWN.when(act(20, "refused", A, valid_until=at(9))).then_fails("INVALID_VALIDITY")


def table() -> str:
    """Write the table as the documents show it."""
    lines = ["| shown \\ act | " + " | ".join(ACTS) + " |", "| --- |" + " --- |" * len(ACTS)]
    for state in ConsentState:
        cells = (TRANSITIONS[state, next_state] for next_state in ACTS)
        said = ((cell.reason and f"{cell.outcome}: `{cell.reason}`") or "allowed" for cell in cells)
        lines.append(f"| {state} | " + " | ".join(said) + " |")
    return "\n".join(lines)


def test_the_documents_show_the_table() -> None:
    assert table() in PAGE.read_text()
