"""One command id names one command: another kind of command under it is refused, itself never."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest

from domain.command_origins import CommandKind, origins_of, require_origin
from domain.commands import (
    CheckConsent,
    LinkHousehold,
    PersonCommand,
    ReadmitIdentifier,
    RecordTcfChoices,
    RulesCommand,
    SetPreferences,
    UnlinkHousehold,
)
from domain.preference_events import Preference
from domain.rules import Source
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
from tests.domain.facts import RULES, at, command_id, email, linked, on, user
from tests.domain.scenario import Scenario, given

A, B, C, D = user("a"), email("b"), user("c"), email("d")
HOUSEHOLD = command_id(77)
BANNER = Source(
    name="banner",
    purposes=frozenset({"marketing"}),
    priority=100,
    consent_categories={"Advertising": ("marketing",)},
    tcf_purposes={1: ("marketing",)},
)
CHOSEN = {"source": "banner", "category_preferences": {"Advertising": True}}
UNDER = replace(RULES, sources={**RULES.sources, "banner": BANNER})
TWO = given(on(1, linked(A, B)), on(2, linked(C))).under(UNDER)
MERGED = TWO.after(merge(3, 1, 2))
MERGE_ID = MERGED.record(1).edges[0].merge_id


def tcf(number: int) -> RecordTcfChoices:
    said = {"source": "banner", "consented": {1}, "interests": set(), "happened_at": at(1)}
    return RecordTcfChoices(identifiers=(A, D), **envelope(number, said))


def household(number: int) -> LinkHousehold:
    said = {"source": "shop", "household_id": HOUSEHOLD, "happened_at": at(1)}
    return LinkHousehold(identifiers=(A,), **envelope(number, said))


def no_household(number: int) -> UnlinkHousehold:
    said = {"household_id": HOUSEHOLD, "happened_at": at(1)}
    return UnlinkHousehold(identifiers=(A,), **envelope(number, said))


def preferences(number: int) -> SetPreferences:
    said = {"preferences": (Preference(channel="mail", frequency="weekly"),), "happened_at": at(1)}
    return SetPreferences(identifiers=(A,), **envelope(number, said))


def readmit(number: int) -> ReadmitIdentifier:
    return ReadmitIdentifier(identifiers=(A,), reference="case 1", **envelope(number, {}))


ASKED: dict[str, tuple[Scenario, Callable[[int], PersonCommand]]] = {
    "creates": (given(), lambda n: identify(n, A, new=5)),
    "links": (TWO, lambda n: link(n, A, D)),
    "identifies, linking": (TWO, lambda n: identify(n, A, D)),
    "identifies, merging": (TWO, lambda n: identify(n, A, C, traits={"x": 1})),
    "sets traits": (TWO, lambda n: set_traits(n, A)),
    "sets traits of another record": (MERGED, lambda n: set_traits(n, C, expected_revision=9)),
    "records signals, linking": (TWO, lambda n: signals(n, A, D)),
    "identifies, choosing": (TWO, lambda n: identify(n, A, D, traits={"x": 1}, **CHOSEN)),
    "records signals, choosing": (TWO, lambda n: signals(n, A, **CHOSEN)),
    "declines": (TWO, lambda n: identify(n, A, source="ads", on_closed="decline")),
    "records a TCF string": (TWO, tcf),
    "consents": (TWO, lambda n: act(n, "given", A)),
    "consents, creating": (given(), lambda n: act(n, "given", A, new=5)),
    "consents, merging": (TWO, lambda n: act(n, "given", A, C, D)),
    "consents of a merged customer": (MERGED, lambda n: act(n, "withdrawn", C)),
    "sets preferences": (TWO, preferences),
    "links a household": (TWO, household),
    "unlinks a household": (TWO.after(household(9)), no_household),
    "records a check": (MERGED, lambda n: check(n, A, record=True)),
    "unlinks": (MERGED, lambda n: unlink(n, C)),
    "erases": (MERGED, lambda n: erasing(n, A)),
    "merges": (TWO, lambda n: merge(n, 1, 2)),
    "undoes": (MERGED, lambda n: undo(n, MERGE_ID, named=1)),
    "readmits": (TWO.after(erasing(9, A)), readmit),
    "expects": (MERGED, lambda n: act(n, "given", A, D, expected_revision=MERGED.revision)),
    "unmerges": (MERGED, lambda n: unmerge(n, 2)),
}
ALIKE = [
    {"identify", "record_signals", "record_consent", "link_identifiers", "record_tcf_choices"},
    {"identify", "set_traits"},
    {"undo_merge", "unmerge_record"},
]
"""Kinds of which some commands come to the same events."""


def kinds_of(union: object) -> set[str]:
    return {kind.model_fields["kind"].default for kind in get_args(get_args(union)[0])}


def test_every_kind_of_command_is_known() -> None:
    assert set(get_args(CommandKind)) == kinds_of(PersonCommand) | kinds_of(RulesCommand)


@pytest.mark.parametrize("name", ASKED)
def test_a_command_that_comes_again_has_its_first_revision_and_is_taken_for_no_other(
    name: str,
) -> None:
    before, asked = ASKED[name]
    command = asked(50)
    decision = before.when(command).decision
    assert decision is not None
    assert decision.changes
    for change in decision.changes:
        require_origin(origins_of(change.body), command.kind)
    carried_out = before.after(command)
    again = carried_out.when(command)
    assert again.error is None
    if not isinstance(command, CheckConsent):
        assert again.then_nothing().repeated_revision == carried_out.revision


@pytest.mark.parametrize("name", ASKED)
def test_another_kind_of_command_under_the_id_is_refused(name: str) -> None:
    before, asked = ASKED[name]
    command = asked(50)
    carried_out = before.after(command)
    for _, other in ASKED.values():
        under_its_id = other(50)
        kinds = {command.kind, under_its_id.kind}
        if len(kinds) > 1 and not any(kinds <= alike for alike in ALIKE):
            carried_out.when(under_its_id).then_fails("COMMAND_ID_REUSED")


def test_traits_that_follow_an_act_of_consent_under_its_id_are_refused() -> None:
    for first, second in (
        (act(50, "given", A), set_traits(50, A)),
        (set_traits(50, A), act(50, "given", A)),
        (identify(50, A, D, traits={"x": 1}), set_traits(50, A)),
        (act(50, "given", A, D), link(50, A, D)),
    ):
        TWO.after(first).when(second).then_fails("COMMAND_ID_REUSED")


def test_what_shows_on_one_record_alone_tells_it_from_another_kind() -> None:
    """The root was touched only, by what may have been anything."""
    touched = MERGED.after(set_traits(50, C, expected_revision=9))
    assert command_id(50) in touched.record(1).commands
    touched.when(act(50, "given", A)).then_fails("COMMAND_ID_REUSED")


def test_who_only_asks_uses_no_id_up() -> None:
    once = TWO.after(act(50, "given", A))
    assert once.when(check(50, A)).then_nothing().verdict is not None
    once.when(check(50, A, record=True)).then_fails("COMMAND_ID_REUSED")


def test_what_stored_nothing_leaves_its_id_free() -> None:
    asked = TWO.after(identify(50, A))
    assert command_id(50) not in asked.record(1).commands
    assert asked.when(act(50, "given", A)).decision is not None
