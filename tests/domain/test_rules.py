"""A workspace's rules: purposes, sources, what may not be defined, and what changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from domain.commands import PURPOSES_PER_SOURCE_MAX, DefinePurpose, RegisterSource
from domain.consent import LawfulBasis
from domain.errors import DomainError
from domain.event import Event
from domain.ids import WORKSPACE_STREAM
from domain.rules import Rules, decide_rules, evolve_rules, fold_rules
from domain.workspace_events import PurposeDefined, SourceRegistered
from tests.domain.facts import at, command_id, recorded, touched

MARKETING = PurposeDefined(purpose="marketing", basis=LawfulBasis.CONSENT, description="Post")
SERVICE = PurposeDefined(purpose="service", basis=LawfulBasis.CONTRACT)
SHOP = SourceRegistered(source="shop", purposes=("service", "marketing"), priority=7)


def given(*events: Event) -> Rules:
    places = enumerate(events, start=1)
    return fold_rules(Rules(), [recorded(WORKSPACE_STREAM, e, revision=r) for r, e in places])


def asked(**said: Any) -> dict[str, Any]:
    envelope = {
        "command_id": command_id(1),
        "auth_id": "test",
        "issued_at": at(0),
        "deadline": at(1),
    }
    return {**envelope, **said}


def define(purpose: str, basis: str, description: str = "") -> DefinePurpose:
    return DefinePurpose(
        **asked(purpose=purpose, basis=LawfulBasis(basis), description=description)
    )


def register(*purposes: str, **said: Any) -> RegisterSource:
    return RegisterSource(**asked(source="shop", purposes=purposes, **said))


def test_a_purpose_is_defined() -> None:
    assert decide_rules(given(), define("marketing", "consent", "Post")) == [MARKETING]


def test_a_purpose_defined_as_it_is_changes_nothing() -> None:
    assert decide_rules(given(MARKETING), define("marketing", "consent", "Post")) == []


@pytest.mark.parametrize(("basis", "text"), [("contract", "Post"), ("consent", "Other")])
def test_a_purpose_defined_otherwise_is_changed(basis: str, text: str) -> None:
    command = define("marketing", basis, text)
    (event,) = decide_rules(given(MARKETING), command)
    rules = given(MARKETING, event)
    assert rules.purpose("marketing").basis is LawfulBasis(basis)
    assert rules.purpose("marketing").description == text
    assert decide_rules(rules, command) == []


def test_the_purpose_audit_is_reserved() -> None:
    with pytest.raises(DomainError) as caught:
        decide_rules(given(), define("audit", "contract"))
    assert caught.value.reason == "RESERVED_PURPOSE"


def test_a_source_is_registered_for_purposes_that_exist() -> None:
    rules = given(MARKETING, SERVICE)
    assert decide_rules(rules, register("service", "marketing", priority=7)) == [SHOP]
    with pytest.raises(DomainError) as caught:
        decide_rules(rules, register("service", "nothing"))
    assert caught.value.reason == "UNKNOWN_PURPOSE"


def test_a_source_registered_as_it_is_changes_nothing_in_whatever_order() -> None:
    rules = given(MARKETING, SERVICE, SHOP)
    assert decide_rules(rules, register("service", "marketing", priority=7)) == []
    assert decide_rules(rules, register("marketing", "service", priority=7)) == []
    assert len(decide_rules(rules, register("service", priority=7))) == 1
    assert len(decide_rules(rules, register("service", "marketing", priority=8))) == 1


def test_a_source_declares_1_to_64_purposes() -> None:
    with pytest.raises(ValidationError):
        register()
    assert len(register(*(f"p{n}" for n in range(PURPOSES_PER_SOURCE_MAX))).purposes) == 64
    with pytest.raises(ValidationError):
        register(*(f"p{n}" for n in range(PURPOSES_PER_SOURCE_MAX + 1)))


def test_the_latest_registration_counts() -> None:
    narrowed = SHOP.model_copy(update={"purposes": ("service",)})
    rules = given(MARKETING, SERVICE, SHOP, narrowed)
    assert rules.version == 4
    assert rules.source("shop").purposes == frozenset({"service"})
    assert rules.sources_serving("marketing") == frozenset()
    assert given(MARKETING, SERVICE, SHOP).sources_serving("marketing") == frozenset({"shop"})


def test_what_is_not_there_is_not_found() -> None:
    for ask, reason in (
        (given().purpose, "UNKNOWN_PURPOSE"),
        (given().source, "UNKNOWN_SOURCE"),
    ):
        with pytest.raises(DomainError) as caught:
            ask("x")
        assert caught.value.reason == reason


def test_an_event_of_another_kind_only_moves_the_version() -> None:
    rules = given(MARKETING)
    later = evolve_rules(rules, recorded(WORKSPACE_STREAM, touched(1), revision=2))
    assert later.version == 2
    assert (later.purposes, later.sources) == (rules.purposes, rules.sources)


@pytest.mark.parametrize(
    "said",
    [
        {"auth_id": "ada@example.com"},
        {"auth_id": "Ada Lovelace"},
        {"auth_id": ""},
        {"correlation_id": "order of ada@example.com"},
        {"correlation_id": "+81 3 1234 5678"},
    ],
)
def test_who_asks_and_what_for_are_no_texts_of_a_caller_s_own(said: dict[str, str]) -> None:
    DefinePurpose(**asked(), purpose="p", basis=LawfulBasis.CONSENT)
    with pytest.raises(ValidationError):
        DefinePurpose(**asked(**said), purpose="p", basis=LawfulBasis.CONSENT)
