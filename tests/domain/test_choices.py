"""Choices that sources pass on with what they send: recorded first, once, and never over a no."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from domain.commands import CATEGORIES_MAX, RecordSignals, RecordTcfChoices
from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import ChoicesRecorded
from domain.identity import Identifier
from domain.ids import (
    EVENTS_PER_APPEND_MAX,
    RECORDS_PER_CUSTOMER_MAX,
    WORKSPACE_STREAM,
    Stream,
    derived_id,
    record_stream,
)
from domain.rules import Rules, fold_rules
from domain.signal_events import SignalsDeclined, SignalsRecorded
from domain.workspace_events import PurposeDefined, SourceRegistered
from tests.domain.asking import act, check, envelope, identify, signal, signals
from tests.domain.facts import LATE, at, command_id, email, linked, on, record_id, recorded, user
from tests.domain.scenario import Scenario, crowd, given

A, B, C = email("a"), email("b"), user("c")
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


def rules(*jurisdictions: str) -> Rules:
    bodies = [
        PurposeDefined(purpose=name, basis=basis, jurisdictions=jurisdictions)
        for name, basis in PURPOSES.items()
    ]
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
    told = [body for body in bodies if isinstance(body, ChoicesRecorded)]
    return [(act.state.value, act.purpose) for body in told for act in body.acts]


def is_open(scenario: Scenario, purpose: str = "marketing", who: Identifier = A) -> bool:
    verdict = scenario.when(check(99, who, purpose=purpose)).then_nothing().verdict
    assert verdict is not None
    return verdict.is_open


def test_a_yes_that_comes_with_a_signal_lets_it_in() -> None:
    decision = KNOWN.when(choosing(2, Advertising=True)).decision  # type: ignore[arg-type] # ours
    assert decision is not None
    choices, recorded_signal = (change.body for change in decision.changes)
    assert isinstance(choices, ChoicesRecorded)
    assert choices.source == "ads"
    (recorded_act,) = choices.acts
    assert recorded_act.state is ConsentState.GIVEN
    assert recorded_act.act_id == derived_id(command_id(2), "choice:marketing")
    assert isinstance(recorded_signal, SignalsRecorded)


def test_a_no_that_comes_with_a_signal_keeps_it_out() -> None:
    agreed = KNOWN.after(choosing(2, 1, Advertising=True))  # type: ignore[arg-type] # ours
    closed = agreed.when(choosing(3, 2, Advertising=False)).decision  # type: ignore[arg-type] # ours
    assert closed is not None
    choices, declined = (change.body for change in closed.changes)
    assert isinstance(choices, ChoicesRecorded)
    assert [act.state for act in choices.acts] == [ConsentState.WITHDRAWN]
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


def test_a_yes_counts_where_the_one_before_did_not() -> None:
    at_once = KNOWN.after(choosing(2, 1, Advertising=False))  # type: ignore[arg-type] # ours
    at_once = at_once.after(choosing(3, 1, Advertising=True))  # type: ignore[arg-type] # ours
    assert not is_open(at_once)
    assert acts(at_once, choosing(4, 1, Advertising=True)) == []
    assert acts(at_once, choosing(4, 2, Advertising=True)) == [("given", "marketing")]
    late = KNOWN.after(choosing(2, 5, Advertising=True))  # type: ignore[arg-type] # ours
    late = late.after(choosing(3, 3, Advertising=False))  # type: ignore[arg-type] # ours
    assert not is_open(late)
    again = late.after(choosing(4, 6, Advertising=True))  # type: ignore[arg-type] # ours
    assert is_open(again)
    assert acts(again, choosing(5, 7, Advertising=True)) == []


def test_a_yes_after_one_that_ran_out_opens_what_nobody_closed() -> None:
    lapsed = KNOWN.after(act(2, "given", A, happened_at=at(-2), valid_until=at(-1)))
    assert acts(lapsed, choosing(3, Advertising=True)) == [("given", "marketing")]


TWO = given(on(1, linked(A)), on(2, linked(C))).under(rules())


def of_both(number: int, minute: float, source: str, **chosen: bool) -> RecordSignals:
    """Let a signal name two people who are not one yet; C is the stronger identifier."""
    messages = [signal(f"m{number}", minute)]
    return signals(number, A, C, source=source, messages=messages, category_preferences=chosen)


def test_where_nobody_is_joined_a_yes_is_theirs_alone_who_are_meant() -> None:
    command = of_both(3, 1, "web", Measuring=False, Advertising=True)
    decision = TWO.when(command).decision
    assert decision is not None
    assert (decision.customer_id, decision.merge_ids) == (record_id(2), ())
    after = TWO.after(command)
    assert is_open(after, who=C)
    assert not is_open(after, who=A)
    assert not any(is_open(after, "analytics", who) for who in (A, C))


def test_a_no_is_new_for_whoever_did_not_say_it() -> None:
    one = TWO.after(signals(3, A, source="web", category_preferences={"Measuring": False}))
    command = of_both(4, 2, "web", Measuring=False)
    assert is_open(one, "analytics", C)
    both = one.after(command)
    assert not is_open(both, "analytics", C)
    assert acts(both, of_both(5, 3, "web", Measuring=False)) == []


def test_a_no_in_a_tcf_string_is_new_for_whoever_did_not_say_it() -> None:
    agreed = TWO.after(act(3, "given", C, happened_at=at(-3_000)))
    one = agreed.after(tcf(4, -1, consented=set(), interests=set(), who=[A]))
    assert is_open(one, who=C)
    assert not is_open(one.after(tcf(5, -1, consented=set(), interests=set(), who=[A, C])), who=C)


def test_an_imported_no_is_new_for_whoever_did_not_say_it() -> None:
    told = {"happened_at": at(5), "is_imported": True}
    given_one = TWO.after(act(3, "given", C)).after(act(4, "withdrawn", A, **told))
    assert is_open(given_one, who=C)
    assert not is_open(given_one.after(act(5, "withdrawn", A, C, **told)), who=C)


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


def test_a_no_of_somebody_unknown_is_kept_where_it_closes_what_stands_below() -> None:
    below = PurposeDefined(
        purpose="profiling", basis=LawfulBasis.LEGITIMATE_INTEREST, parent="marketing"
    )
    judged = fold_rules(rules(), [recorded(WORKSPACE_STREAM, below, revision=9)])
    nobody = given().under(judged)
    assert is_open(nobody, "profiling")
    objected = nobody.after(choosing(2, Advertising=False))  # type: ignore[arg-type] # ours
    assert not is_open(objected, "profiling")


def test_choices_come_with_identify_too() -> None:
    command = identify(
        2, A, B, source="ads", category_preferences={"Advertising": True}, on_closed="decline"
    )
    decision = KNOWN.when(command).decision
    assert decision is not None
    assert not any(isinstance(change.body, SignalsDeclined) for change in decision.changes)
    assert acts(KNOWN, command) == [("given", "marketing")]


MANY = tuple(f"purpose_{number}" for number in range(CATEGORIES_MAX))


def of_many_purposes() -> Rules:
    categories = {f"of {purpose}": (purpose,) for purpose in MANY}
    iab = {str(n + 1): MANY[n::24] for n in range(24)}
    bodies = [
        *(PurposeDefined(purpose=name, basis=LawfulBasis.CONSENT) for name in MANY),
        SourceRegistered(
            source="ads", purposes=MANY, consent_categories=categories, tcf_purposes=iab
        ),
    ]
    places = enumerate(bodies, start=1)
    return fold_rules(Rules(), [recorded(WORKSPACE_STREAM, b, revision=r) for r, b in places])


def choosing_of_many(number: int, *, is_yes: bool) -> RecordSignals:
    chosen = {f"of {purpose}": is_yes for purpose in MANY}
    said = {"source": "ads", "category_preferences": chosen}
    return signals(number, user("1-0"), messages=[signal(f"m{number}", number)], **said)


def test_choices_of_many_purposes_reach_every_record_of_the_largest_customer_at_once() -> None:
    largest = crowd(RECORDS_PER_CUSTOMER_MAX).under(of_many_purposes())
    agreed = largest.after(choosing_of_many(2, is_yes=True))
    assert all(is_open(agreed, purpose, user("1-0")) for purpose in MANY)
    objecting = tcf(5, 1, consented=set(), interests=set(), who=[user("9-0")])
    for closing in (choosing_of_many(4, is_yes=False), objecting):
        decision = agreed.when(closing).decision
        assert decision is not None
        assert len(decision.changes) <= EVENTS_PER_APPEND_MAX
        told: dict[Stream, list[tuple[str, str]]] = {}
        for change in decision.changes:
            if isinstance(change.body, ChoicesRecorded):
                told[change.stream] = [(a.state.value, a.purpose) for a in change.body.acts]
        every = [("withdrawn", purpose) for purpose in sorted(MANY)]
        assert told == {record_stream(member): every for member in largest.record(1).component}
        closed = agreed.stored(decision.changes, closing, recorded_at=at(LATE + 1))
        closed.when(closing).then_nothing()
        assert not any(is_open(closed, purpose, user("200-0")) for purpose in MANY)


def test_the_acts_of_one_call_keep_their_own_times() -> None:
    messages = [signal("m1", 1), signal("m2", 5)]
    choices = {"Advertising": True, "Measuring": False}
    command = signals(2, A, source="ads", messages=messages, category_preferences=choices)
    decision = KNOWN.when(command).decision
    assert decision is not None
    (told,) = (c.body for c in decision.changes if isinstance(c.body, ChoicesRecorded))
    assert {act.purpose: act.happened_at for act in told.acts} == {
        "marketing": at(1),
        "analytics": at(5),
    }
    acts_held = KNOWN.after(command).record(1).acts
    assert {(act.purpose, act.effective_at) for act in acts_held} == {
        ("marketing", at(1)),
        ("analytics", at(5)),
    }


def tcf(
    number: int,
    day: int,
    *,
    consented: set[int],
    interests: set[int],
    who: Sequence[Identifier] = (A,),
) -> RecordTcfChoices:
    return RecordTcfChoices(
        **envelope(number, {}),
        identifiers=tuple(who),
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


def test_a_tcf_string_of_another_law_opens_nothing_and_closes() -> None:
    known, said = KNOWN.under(rules("JP")), tcf(2, -2, consented={1}, interests=set())
    for law, told in (
        ("JP", ["refused", "given"]),
        ("DE", ["refused"]),
        (None, ["refused", "given"]),
    ):
        command = said.model_copy(update={"jurisdiction": law})
        assert [state for state, _ in acts(known, command)] == told


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
