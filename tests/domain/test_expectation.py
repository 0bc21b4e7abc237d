"""A command that names a revision is decided only where nobody has changed since."""

from __future__ import annotations

import pytest

from domain.commands import LinkHousehold, PersonCommand, ReadmitIdentifier
from domain.errors import Changed, Kind
from domain.event import Event
from domain.identity_events import IdentifiersUnlinked
from domain.preference_events import (
    HouseholdLinked,
    HouseholdUnlinked,
    Preference,
    PreferencesSet,
)
from domain.signal_events import SignalsDeclined, TraitsSet
from tests.domain.asking import (
    act,
    check,
    envelope,
    erasing,
    identify,
    link,
    merge,
    set_traits,
    signals,
    undo,
    unlink,
    unmerge,
)
from tests.domain.facts import at, consent, linked, on, record_id, touched, user
from tests.domain.scenario import Scenario, crowd, given

HOUSEHOLD = "01890000-0000-7000-8000-000000000001"
A, B, C = user("1-0"), user("2-0"), user("3-0")

CHANGES: dict[str, Event] = {
    "an identifier": linked(user("new")),
    "one less": IdentifiersUnlinked(keys=(B.key,)),
    "a trait": TraitsSet(source="shop", traits={"a": 1}),
    "an act": consent(900, "given"),
    "a preference": PreferencesSet(preferences=(Preference(channel="email", frequency="never"),)),
    "a household": HouseholdLinked(household_id=HOUSEHOLD, source="shop"),
    "no household": HouseholdUnlinked(household_id=HOUSEHOLD),
    "a change elsewhere": touched(1),
}


def refused_at(scenario: Scenario, command: PersonCommand) -> int:
    """Decide what must be refused for a change; give the revision of it that is told."""
    outcome = scenario.when(command)
    assert isinstance(outcome.error, Changed), outcome
    assert (outcome.error.reason, outcome.error.kind) == ("CUSTOMER_CHANGED", Kind.CHANGED)
    return outcome.error.current_revision


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("record", [1, 2])
def test_a_change_of_any_record_is_one_of_the_customer(what: str, record: int) -> None:
    known = crowd(2)
    changed = known.happened(*on(record, CHANGES[what]))
    asked = set_traits(1, A, expected_revision=known.revision)
    assert known.when(asked).error is None
    assert refused_at(changed, asked) == changed.revision
    assert changed.when(set_traits(2, A, expected_revision=changed.revision)).error is None


def test_what_somebody_did_or_was_answered_is_no_change() -> None:
    known = crowd(2)
    later = known.after(signals(1, A)).after(signals(2, B, messages=["m2"]))
    later = later.happened(*on(1, SignalsDeclined(source="ads", reason="X", message_ids=("m3",))))
    later = later.after(check(3, A, record=True))
    assert later.revision > known.revision
    assert later.when(set_traits(4, A, expected_revision=known.revision)).error is None


def test_signals_that_tell_who_somebody_is_are_a_change() -> None:
    known = crowd(2)
    later = known.after(signals(1, A, user("new")))
    assert refused_at(later, set_traits(2, A, expected_revision=known.revision)) > known.revision


def test_what_is_decided_binds_every_record_and_what_expects_nothing_does_not() -> None:
    known = crowd(3)
    traits = on(2, TraitsSet(source="shop", traits={"a": 1}))
    known.when(set_traits(1, B)).then(traits)
    asked = set_traits(1, B, expected_revision=known.revision)
    known.when(asked).then(traits, on(1, touched(2)), on(3, touched(2)))


def test_what_stands_on_every_record_already_is_not_told_twice() -> None:
    known = crowd(3)
    for asked in (act(1, "given", A), unmerge(2, 3), erasing(3, A)):
        expecting = asked.model_copy(update={"expected_revision": known.revision})
        plain, bound = known.when(asked).decision, known.when(expecting).decision
        assert plain is not None
        assert bound is not None
        assert plain.changes == bound.changes


def test_what_changes_nothing_touches_nobody() -> None:
    known = crowd(2).happened(*on(1, CHANGES["a household"]), happened_at=at(1))
    asked = LinkHousehold(
        **envelope(1, {"named": 1}), source="shop", household_id=HOUSEHOLD, happened_at=at(1)
    )
    known.when(asked.model_copy(update={"expected_revision": known.revision})).then_nothing()


@pytest.mark.parametrize("changed", [1, 2])
def test_a_merge_expects_that_neither_side_has_changed(changed: int) -> None:
    known = given(on(1, linked(A)), on(2, linked(B)))
    later = known.happened(*on(changed, CHANGES["a trait"]))
    for dry_run in (False, True):
        asked = merge(1, 1, 2, expected_revision=known.revision, dry_run=dry_run)
        assert known.when(asked).error is None
        assert refused_at(later, asked) == later.revision


def test_a_merge_and_an_undo_are_changes_of_everybody_in_them() -> None:
    apart = given(on(1, linked(A)), on(2, linked(B)))
    together = apart.after(merge(1, 1, 2))
    merge_id = together.record(1).edges[0].merge_id
    parted = together.after(undo(2, merge_id, named=1))
    for item in (A, B):
        stale = set_traits(3, item, expected_revision=apart.revision)
        assert refused_at(together, stale) > apart.revision
        stale = set_traits(4, item, expected_revision=together.revision)
        assert refused_at(parted, stale) > together.revision


def test_whoever_parted_is_somebody_else() -> None:
    together = given(on(1, linked(A)), on(2, linked(B))).after(merge(1, 1, 2))
    parted = together.after(undo(2, together.record(1).edges[0].merge_id, named=1))
    later = parted.happened(*on(2, CHANGES["a trait"]))
    assert later.when(set_traits(3, A, expected_revision=parted.revision)).error is None


def test_zero_expects_that_nobody_is_known() -> None:
    nobody, known = given(), given(on(1, linked(A)))
    for asked in (identify(1, A, expected_revision=0), act(2, "given", A, expected_revision=0)):
        decision = nobody.when(asked).decision
        assert decision is not None
        assert decision.created
        assert refused_at(known, asked) == known.revision


def test_nobody_is_created_where_somebody_was_expected() -> None:
    known = given(on(1, linked(A)))
    assert refused_at(known, identify(1, B, expected_revision=known.revision)) == 0
    known.when(link(2, B, expected_revision=known.revision)).then_fails("UNKNOWN_CUSTOMER")


def test_a_command_that_was_carried_out_is_answered_as_then() -> None:
    known = crowd(2)
    asked = set_traits(1, A, expected_revision=known.revision)
    later = known.after(asked).happened(*on(1, CHANGES["a trait"]))
    decision = later.when(asked).then_nothing()
    assert decision.repeated_revision == known.revision + 2


def test_what_an_answer_names_may_be_expected_next() -> None:
    known = crowd(3)
    for number in range(1, 4):
        known = known.after(set_traits(number, A, expected_revision=known.revision))
    assert known.when(set_traits(9, A, expected_revision=known.revision)).error is None


def test_of_somebody_erased_nothing_is_compared() -> None:
    known = given(on(1, linked(A)))
    erased = known.after(erasing(1, named=1))
    erased.when(set_traits(2, A, expected_revision=1)).then_fails("IDENTIFIER_ERASED")
    erased.when(set_traits(3, named=1, expected_revision=1)).then_fails("CUSTOMER_ERASED")
    again = erased.when(erasing(4, named=1, expected_revision=1)).then_nothing()
    assert again.repeated_revision == erased.revision


def test_an_identifier_is_readmitted_as_of_its_holders_erasure() -> None:
    erased = given(on(1, linked(A))).after(erasing(1, named=1))

    def readmitting(number: int, revision: int) -> ReadmitIdentifier:
        asked = envelope(number, {"expected_revision": revision})
        return ReadmitIdentifier(identifiers=(A,), reference="case 1", **asked)

    first = readmitting(2, erased.revision)
    assert refused_at(erased, readmitting(3, 1)) == tombstoned_at(erased)
    free = erased.after(first)
    free.when(readmitting(4, erased.revision)).then_fails("NOT_ERASED")
    other = free.happened(*on(2, linked(A))).after(erasing(5, named=2))
    assert refused_at(other, readmitting(6, erased.revision)) == tombstoned_at(other)


def tombstoned_at(erased: Scenario) -> int:
    return erased.histories.tombstoned[A.key].revision


def test_unlinking_expects_of_whoever_holds_it() -> None:
    known = crowd(2)
    later = known.happened(*on(1, CHANGES["a trait"]))
    assert refused_at(later, unlink(1, B, expected_revision=known.revision)) == later.revision
    decision = known.when(unlink(2, B, expected_revision=known.revision)).decision
    assert decision is not None
    assert record_id(1) in {change.stream.key for change in decision.changes}
