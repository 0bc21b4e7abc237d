"""What is remembered of an identifier's past holders, and what that changes of a decision."""

from __future__ import annotations

import pytest

from domain.commands import PersonCommand, ReadmitIdentifier
from domain.decision import Decision
from domain.identity import Identifier, PastHolder
from domain.identity_events import IdentifiersTakenOver
from domain.ids import made_at_milliseconds, record_stream
from domain.past_holders import PAST_HOLDERS_OF_ONE_MAX, holders_before, of_records
from domain.record import (
    COMMANDS_AHEAD_MAX,
    COMMANDS_REMEMBERED_FOR,
    PAST_HOLDERS_MAX,
    evolve,
    unborn,
)
from domain.signal_events import SignalsRecorded
from tests.domain.asking import (
    act,
    envelope,
    erasing,
    identify,
    merge,
    set_traits,
    signal,
    signals,
    unlink,
    unmerge,
)
from tests.domain.facts import command_id, email, linked, on, record_id, recorded, user
from tests.domain.scenario import Scenario, given

A, B, C = user("a"), email("b"), user("c")
TWO = given(on(1, linked(A, B)), on(2, linked(C)))
DAY = (COMMANDS_REMEMBERED_FOR + 2 * COMMANDS_AHEAD_MAX).total_seconds() / 65.536
"""In numbers of commands: each is made a little more than a minute after the one before."""


def moved(scenario: Scenario, number: int, item: Identifier, to: Identifier) -> Scenario:
    """Unlink an identifier, and have somebody else claim it."""
    return scenario.after(unlink(number, item)).after(identify(number + 1, to, item))


def past(scenario: Scenario, record: int) -> list[tuple[str, str]]:
    """Say whose identifiers a record has taken over."""
    return [(h.key, h.record_id) for h in scenario.record(record).past_holders]


def test_who_claims_what_another_held_knows_of_them() -> None:
    assert past(moved(TWO, 3, B, C), 2) == [(B.key, record_id(1))]
    assert past(TWO.after(identify(3, C, email("new"))), 2) == []


def test_whoever_is_created_with_it_knows_of_them_too() -> None:
    free = TWO.after(unlink(3, B))
    assert past(free.after(signals(4, B, new=5)), 5) == [(B.key, record_id(1))]


def test_each_one_of_a_chain_is_known() -> None:
    chain = moved(moved(TWO, 3, B, C), 5, B, A)
    assert past(chain, 1) == [(B.key, record_id(1)), (B.key, record_id(2))]
    again = moved(chain, 7, B, C)
    assert past(again, 2) == [(B.key, record_id(n)) for n in (1, 2, 1)]


def test_of_an_identifier_that_changes_hands_all_day_the_last_are_known() -> None:
    scenario = TWO
    for number in range(3, 3 + 4 * PAST_HOLDERS_OF_ONE_MAX, 4):
        scenario = moved(moved(scenario, number, B, C), number + 2, B, A)
    last = scenario.after(unlink(900, B)).when(identify(901, C, B)).decision
    assert last is not None
    (taken,) = [c.body for c in last.changes if isinstance(c.body, IdentifiersTakenOver)]
    assert len(taken.holders) == PAST_HOLDERS_OF_ONE_MAX
    assert taken.holders[-1].record_id == record_id(1)


def test_who_let_go_longer_ago_than_commands_are_remembered_is_nobody() -> None:
    free = TWO.after(unlink(3, B))
    assert past(free.after(identify(3 + int(DAY), C, B)), 2)
    assert not past(free.after(identify(4 + int(DAY), C, B)), 2)
    holders = moved(TWO, 3, B, C).record(2).past_holders
    assert holders_before(holders, set_traits(3 + int(DAY), B))
    assert not holders_before(holders, set_traits(4 + int(DAY), B))


def test_only_its_own_identifier_counts() -> None:
    holders = of_records([moved(TWO, 3, B, C).record(2)])
    assert holders_before(holders, set_traits(5, C, B))
    assert not holders_before(holders, set_traits(5, C))


@pytest.mark.parametrize(
    "command",
    [
        set_traits(3, B),
        identify(3, B, traits={"x": 1}),
        act(3, "given", B),
        signals(3, B, messages=["m1", "m2"]),
    ],
)
def test_what_was_carried_out_answers_for_whom_it_was(command: PersonCommand) -> None:
    once = TWO.after(command)
    for later in (once.after(unlink(4, B)), moved(once, 4, B, C)):
        assert later.when(command).then_nothing().customer_id == record_id(1)


def results(decision: Decision) -> list[str]:
    return [*decision.signals]


def test_a_message_that_a_past_holder_has_counts_once_and_others_are_recorded() -> None:
    later = moved(TWO.after(signals(3, B, messages=["m1"])), 4, B, C)
    body = SignalsRecorded(source="shop", signals=(signal("m2"),))
    mixed = later.when(signals(6, B, messages=["m1", "m2"])).then(on(2, body))
    assert results(mixed) == ["duplicate", "recorded"]
    assert mixed.customer_id == record_id(2)
    by_identify = later.when(identify(6, B, traits={"x": 1}, message_id="m1")).then_nothing()
    assert (by_identify.customer_id, results(by_identify)) == (record_id(1), ["duplicate"])
    later.when(set_traits(6, B, message_id="m1")).then_nothing()


def test_a_message_declined_of_a_past_holder_stays_declined() -> None:
    later = moved(TWO.after(signals(3, B, source="ads")), 4, B, C)
    assert results(later.when(signals(6, B, source="ads")).then_nothing()) == ["declined"]


def test_the_message_of_somebody_else_is_another_persons() -> None:
    later = moved(TWO.after(signals(3, A, messages=["m1"])), 4, B, C)
    again = later.when(signals(6, C, messages=["m1"])).decision
    assert again is not None
    assert results(again) == ["recorded"]


def test_merges_undos_and_an_erasure_leave_it() -> None:
    course = moved(TWO, 3, B, C)
    for command in (merge(5, 1, 2), unmerge(6, 2), merge(7, 1, 2)):
        course = course.after(command)
        assert past(course, 2) == [(B.key, record_id(1))]
    erasure = erasing(8, C)
    assert past(course.after(erasure), 2) == [(B.key, record_id(1))]


def test_what_was_readmitted_was_theirs_who_were_erased() -> None:
    erasure = erasing(3, B)
    readmission = ReadmitIdentifier(identifiers=(B,), reference="ticket 7", **envelope(4, {}))
    later = TWO.after(erasure).after(readmission).after(identify(5, C, B))
    assert past(later, 2) == [(B.key, record_id(1))]
    later.when(erasure).then_nothing()
    assert not later.record(2).erased_since


def test_only_so_many_are_remembered_the_newest() -> None:
    until = made_at_milliseconds(command_id(1))
    record = unborn(record_id(1))
    for revision in (1, 2):
        holders = tuple(
            PastHolder(key=B.key, record_id=record_id(n + 1_000 * revision), until=until)
            for n in range(1, PAST_HOLDERS_MAX + 1)
        )
        body = IdentifiersTakenOver(holders=holders)
        event = recorded(
            record_stream(record.id), body, revision=revision, command_id=command_id(1)
        )
        record = evolve(record, event)
    assert record.past_holders == holders
    later = command_id(2 + int(DAY))
    old = recorded(record_stream(record.id), body, revision=3, command_id=later)
    assert evolve(record, old).past_holders == ()
