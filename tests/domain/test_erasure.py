"""Erasing a person: one batch closes every record and tombstones every identifier (R14)."""

from __future__ import annotations

from typing import Any

import pytest

from domain.commands import PersonCommand
from domain.erasure_events import ErasureRequested
from domain.identity import Identifier
from domain.identity_events import IdentifierTombstoned
from domain.ids import (
    EVENTS_PER_APPEND_MAX,
    IDENTIFIERS_PER_CUSTOMER_MAX,
    RECORDS_PER_CUSTOMER_MAX,
    identifier_stream,
)
from tests.domain.asking import (
    act,
    check,
    erasing,
    identify,
    link,
    merge,
    set_traits,
    signals,
    undo,
    unmerge,
)
from tests.domain.facts import (
    Placed,
    claim,
    consent,
    edge,
    email,
    identifier,
    left_out,
    linked,
    loyalty,
    merged,
    merged_whole,
    on,
    record_id,
    user,
)
from tests.domain.scenario import given

ANNE, MAIL, BOB = user("anne"), email("anne@example.com"), user("bob")
TABLET = identifier("device_id", "tablet")
EDGE = edge(0xA, 1, 2)
PAIR = given(
    claim(ANNE, 1),
    on(1, linked(ANNE)),
    claim(MAIL, 2),
    on(2, linked(MAIL)),
    on(1, merged_whole(0xA, [1, 2], [EDGE], evidence=[ANNE])),
    on(2, merged(0xA, 1, [EDGE], [ANNE])),
    claim(TABLET, 5),
    on(5, linked(TABLET)),
)


def tombstone(item: Identifier, record: int) -> Placed:
    """Place the tombstone of an identifier that a record held."""
    return identifier_stream(item.key), IdentifierTombstoned(record_id=record_id(record))


def requested(**said: Any) -> ErasureRequested:
    """Say that the pair is to be erased."""
    return ErasureRequested(root=record_id(1), **said)


WHOLE = requested(component=(record_id(1), record_id(2)), live_edges=(EDGE,))
ERASED = PAIR.after(erasing(7, named=2))


def test_a_merged_customer_is_erased_whole_in_one_batch() -> None:
    PAIR.when(erasing(7, named=2)).then(
        tombstone(ANNE, 1), tombstone(MAIL, 2), on(1, WHOLE), on(2, requested())
    )


def test_a_customer_is_erased_by_what_it_holds_too() -> None:
    decision = PAIR.when(erasing(7, MAIL, ANNE, reference="ticket 4")).decision
    assert decision is not None
    assert decision.customer_id == record_id(1)
    assert [change.body for change in decision.changes][-1] == requested(reference="ticket 4")


def test_a_dry_run_lists_the_records_that_would_go() -> None:
    decision = PAIR.when(erasing(7, named=1, dry_run=True)).then_nothing()
    assert decision.consequences is not None
    erased = decision.consequences.erased
    assert [record.record_id for record in erased] == [record_id(1), record_id(2)]
    assert [record.identifiers for record in erased] == [{"user_id": 1}, {"email": 1}]


def test_who_means_two_people_erases_nobody() -> None:
    PAIR.when(erasing(7, ANNE, TABLET)).then_fails("AMBIGUOUS_CUSTOMER")
    PAIR.when(erasing(7, BOB)).then_fails("UNKNOWN_CUSTOMER")
    PAIR.when(erasing(7, ANNE, BOB)).then_fails("AMBIGUOUS_CUSTOMER")


def test_nothing_of_the_person_stays_in_the_state() -> None:
    filled = PAIR.after(set_traits(3, ANNE)).after(act(4, "given", ANNE)).after(signals(5, MAIL))
    for number in (1, 2):
        record = filled.after(erasing(7, named=1)).record(number)
        kept = (record.identifiers, record.traits, record.acts, record.messages)
        assert not any(kept)
        assert record.erased_since
        assert record.root == record_id(1)


@pytest.mark.parametrize(
    "command",
    [
        identify(8, named=2),
        set_traits(8, named=1),
        signals(8, named=2),
        act(8, "given", named=1),
        act(8, "withdrawn", named=1),
        link(8, BOB, named=1),
        merge(8, 1, 5),
        merge(8, 5, 2),
        undo(8, EDGE.merge_id, named=1),
        unmerge(8, 2),
        check(8, named=1, record=True),
    ],
    ids=lambda command: command.kind,
)
def test_every_command_that_names_an_erased_id_is_refused(command: PersonCommand) -> None:
    ERASED.when(command).then_fails("CUSTOMER_ERASED")


@pytest.mark.parametrize("purpose", ["service", "analytics", "marketing"])
def test_no_purpose_is_open_for_an_erased_person_on_whatever_basis(purpose: str) -> None:
    for command, reason in (
        (check(8, named=2, purpose=purpose), "CUSTOMER_ERASED"),
        (check(8, MAIL, purpose=purpose), "IDENTIFIER_ERASED"),
    ):
        decision = ERASED.when(command).then_nothing()
        assert decision.verdict is not None
        assert not decision.verdict.is_open
        assert decision.verdict.reason == reason


def test_what_was_held_is_dropped_from_what_has_others_and_refused_alone() -> None:
    decision = ERASED.when(signals(8, MAIL, TABLET)).decision
    assert decision is not None
    assert decision.customer_id == record_id(5)
    assert decision.left_out == left_out("ERASED", MAIL)
    ERASED.when(signals(8, MAIL, ANNE)).then_fails("IDENTIFIER_ERASED")
    ERASED.when(identify(8, ANNE, new=9)).then_fails("IDENTIFIER_ERASED")


def test_what_is_known_of_somebody_erased_is_not_kept_with_another() -> None:
    for other in (TABLET, BOB):
        ERASED.when(identify(8, ANNE, other, traits={"name": "Anne"})).then_fails(
            "IDENTIFIER_ERASED"
        )
        assert ERASED.when(identify(8, ANNE, other)).decision is not None
    ERASED.when(set_traits(8, ANNE, TABLET)).then_fails("IDENTIFIER_ERASED")
    decision = ERASED.when(identify(8, BOB, MAIL, traits={"name": "Bob"})).decision
    assert decision is not None
    assert decision.left_out == left_out("ERASED", MAIL)


def test_somebody_unknown_who_comes_with_what_was_erased_is_taken_for_the_erased() -> None:
    decision = ERASED.when(check(8, MAIL, BOB, purpose="service")).then_nothing()
    assert decision.verdict is not None
    assert (decision.verdict.is_open, decision.verdict.reason) == (False, "IDENTIFIER_ERASED")
    decision = ERASED.when(check(8, MAIL, TABLET, purpose="service")).then_nothing()
    assert decision.verdict is not None
    assert decision.verdict.is_open


def test_erasing_twice_is_once_by_id_by_what_was_held_and_by_the_same_command() -> None:
    for command in (erasing(9, named=1), erasing(9, named=2), erasing(9, MAIL), erasing(7, MAIL)):
        decision = ERASED.when(command).then_nothing()
        assert decision.customer_id == record_id(1)
        assert decision.repeated_revision == ERASED.revision


def test_the_largest_customer_there_can_be_is_erased_in_one_batch() -> None:
    members = range(1, RECORDS_PER_CUSTOMER_MAX + 1)
    each = IDENTIFIERS_PER_CUSTOMER_MAX // RECORDS_PER_CUSTOMER_MAX
    edges = [edge(0xA, 1, other) for other in members[1:]]
    held = [(n, loyalty(f"{n}-{place}")) for n in members for place in range(each)]
    whole = merged_whole(0xA, list(members), edges, evidence=[])
    largest = given(
        *(on(n, linked(item)) for n, item in held),
        on(1, whole),
        *(on(n, merged(0xA, 1, edges, [])) for n in members[1:]),
    )
    decision = largest.when(erasing(7, named=9)).decision
    assert decision is not None
    assert len(decision.changes) == RECORDS_PER_CUSTOMER_MAX + IDENTIFIERS_PER_CUSTOMER_MAX
    assert len(decision.changes) <= EVENTS_PER_APPEND_MAX


def test_who_parted_before_stays_and_their_closing_acts_with_them() -> None:
    refused = PAIR.happened(*on(1, consent(3, "refused"))).happened(*on(2, consent(3, "refused")))
    parted = refused.after(undo(5, EDGE.merge_id, named=1))
    left = parted.after(erasing(7, named=1))
    assert [a.state.value for a in left.record(2).acts] == ["refused"]
    assert not left.record(2).erased_since
    left.when(merge(8, 2, 1)).then_fails("CUSTOMER_ERASED")
