"""Identity rules as events of the workspace."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from domain.commands import SetIdentityRules
from domain.identity_rules import DEFAULT_IDENTITY_RULES, IdentityRules, Namespace, Part
from domain.ids import WORKSPACE_STREAM
from domain.rules import Rules, decide_rules, evolve_rules
from domain.workspace_events import IdentityRulesSet
from tests.domain.facts import at, command_id, email, identifier, recorded, user

CARD = IdentityRules(namespaces=(Namespace(name="card", values_max=2),))


def command(rules: IdentityRules) -> SetIdentityRules:
    return SetIdentityRules(
        command_id=command_id(1), auth_id="test", issued_at=at(0), deadline=at(1), rules=rules
    )


def test_a_new_workspace_has_good_defaults() -> None:
    assert Rules().identity == DEFAULT_IDENTITY_RULES
    assert DEFAULT_IDENTITY_RULES.values_max("user_id") == 1
    assert DEFAULT_IDENTITY_RULES.values_max("email") > 1
    assert DEFAULT_IDENTITY_RULES.values_max("unheard_of") == 512


def test_rules_that_are_set_stand_in_place_of_all_before() -> None:
    [event] = decide_rules(Rules(), command(CARD))
    assert event == IdentityRulesSet(rules=CARD)
    rules = evolve_rules(Rules(), recorded(WORKSPACE_STREAM, event, revision=1))
    assert rules.identity == CARD
    assert rules.version == 1
    assert decide_rules(rules, command(CARD)) == []


def test_strength_is_the_order_of_the_namespaces() -> None:
    rules = DEFAULT_IDENTITY_RULES
    given = [identifier("odd", "x"), email("b"), user("z"), email("a")]
    found = [item.value for item in sorted(given, key=rules.strength)]
    assert found == ["z", "a", "b", "x"]


@pytest.mark.parametrize(
    ("value", "is_blocked"),
    [("null", True), ("00", True), ("0-0", True), ("0", False), ("100", False), ("nullify", False)],
)
def test_values_that_name_nobody(value: str, *, is_blocked: bool) -> None:
    namespace = DEFAULT_IDENTITY_RULES.namespace("user_id")
    assert namespace is not None
    assert namespace.blocks(value) is is_blocked


@pytest.mark.parametrize(
    ("pattern", "value", "is_blocked"),
    [
        ("[test]*", "emma", False),
        ("[test]*", "[TEST]1", True),
        ("[!a]?", "[!a]b", True),
        ("[!a]?", "bc", False),
        ("[[]", "[[]", True),
        ("[[]", "[", False),
        ("a]*", "a]b", True),
        ("test-?", "test-12", False),
    ],
)
def test_in_a_pattern_only_stars_and_question_marks_stand_for_others(
    pattern: str, value: str, *, is_blocked: bool
) -> None:
    rule = Namespace(name="a", values_max=1, blocked_patterns=(pattern,))
    assert rule.blocks(value) is is_blocked


def test_rules_that_say_nothing_or_twice_are_refused() -> None:
    one = Namespace(name="a", values_max=1)
    for wrong in ((), (one, one)):
        with pytest.raises(ValidationError):
            IdentityRules(namespaces=wrong)
    for parts in ((Part(name="x"),), (Part(name="x"), Part(name="x"))):
        with pytest.raises(ValidationError):
            Namespace(name="a", values_max=1, parts=parts)
