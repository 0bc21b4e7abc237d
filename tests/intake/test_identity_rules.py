"""Intake by the workspace's identity rules: values that name nobody, and composites of traits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.clock import SystemClock
from actors.intake.grouping import Ticket, make_command
from actors.intake.identifiers import Blocked, IdentifierNormaliser
from actors.intake.segment_spec import DecodedCall, Surroundings, decode_call
from domain.errors import Invalid
from domain.identity import LeftOutReason
from domain.identity_rules import (
    DEFAULT_IDENTITY_RULES,
    IdentityRules,
    Namespace,
    Normaliser,
    Part,
)
from domain.rules import Rules
from tests.intake.messages import identify, message, track

PERSON = Namespace(name="person", values_max=1, parts=(Part(name="name"), Part(name="birthday")))
RULES = IdentityRules(namespaces=(*DEFAULT_IDENTITY_RULES.namespaces, PERSON))
NORMALISER = IdentifierNormaliser(b"a pepper for the tests", rules=lambda: Rules(identity=RULES))
NAME = Namespace(name="name", normaliser="words", values_max=1)
PLACE = Namespace(name="place", normaliser="unspaced", values_max=1)
WRITER = IdentifierNormaliser(
    b"a pepper for the tests",
    rules=lambda: Rules(identity=IdentityRules(namespaces=(NAME, PLACE))),
)
AROUND = Surroundings("m1", "track", datetime(2026, 1, 1, tzinfo=UTC))


def decoded(call: dict[str, Any]) -> DecodedCall:
    return decode_call(call, AROUND, normaliser=NORMALISER)


@pytest.mark.parametrize("value", ["null", "NULL", "\uff4eull", "undefined", "000", "00-00"])
def test_a_value_that_names_nobody_is_left_out_and_said(value: str) -> None:
    call = decoded(track(userId=value, anonymousId="a-1"))
    assert [item.namespace for item in call.identifiers] == ["anonymous_id"]
    [item] = call.left_out
    assert item.reason is LeftOutReason.BLOCKED
    command = make_command([Ticket(message({}), 0, "shop", call, 1)], SystemClock())
    assert command.left_out == call.left_out


def test_a_call_that_names_nobody_else_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        decoded(track(userId="null"))
    assert refused.value.reason == "IDENTIFIER_BLOCKED"


@pytest.mark.parametrize("value", ["test@shop.example", "NoReply@shop.example"])
def test_patterns_block_whatever_stands_for_their_stars(value: str) -> None:
    with pytest.raises(Blocked):
        NORMALISER.normalise("email", value)
    assert NORMALISER.normalise("email", f"a.{value}").value


def test_a_composite_is_made_of_traits_that_are_all_there() -> None:
    both = {"name": " Yamada  Taro", "birthday": "1970-01-01"}
    [_, person] = decoded(identify(traits=both)).identifiers
    assert person == NORMALISER.compose("person", {"name": "yamada taro", "birthday": "1970-01-01"})
    assert len(decoded(identify(traits={"name": "Yamada Taro"})).identifiers) == 1
    assert len(decoded(identify(traits={**both, "name": 7})).identifiers) == 1


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("Ada Lovelace", "ada lovelace"),
        (" LOVELACE,  Ada. ", "ada lovelace"),
        ("Seán O'Brien", "obrien seán"),
        ("O\u2019Brien Se\u0061\u0301n", "obrien seán"),
        ("12/4 Mill-Lane", "12 4 lane mill"),
        ("\uff14 Straße", "4 strasse"),
        ("山田 太郎", "太郎 山田"),
    ],
)
def test_words_are_the_same_in_any_order_and_punctuation(raw: str, value: str) -> None:
    found = WRITER.normalise("name", raw)
    assert found.value == value
    assert WRITER.normalise("name", value) == found


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("34 Bellinger Circuit", "34bellingercircuit"),
        ("34 BellingerCircuit", "34bellingercircuit"),
        (" 34, bellinger  c ircuit.", "34bellingercircuit"),
        ("12/4 Mill-Lane", "12 4milllane"),
        ("1 24 Mill Lane", "1 24milllane"),
        ("Flat 4 B, 7", "flat4b7"),
        ("千代田区 千代田 \uff11\u22121", "千代田区千代田1 1"),
        ("千代田区千代田1-1", "千代田区千代田1 1"),
        ("山田\u3000太郎", "山田太郎"),
    ],
)
def test_spaces_and_punctuation_part_nothing_but_numbers(raw: str, value: str) -> None:
    found = WRITER.normalise("place", raw)
    assert found.value == value
    assert WRITER.normalise("place", value) == found


@pytest.mark.parametrize("namespace", ["name", "place"])
@given(raw=st.text(st.characters(exclude_categories=[])))
def test_what_has_words_is_written_one_way_and_what_has_none_is_refused(
    namespace: str, raw: str
) -> None:
    reason: str | None = None
    try:
        found = WRITER.normalise(namespace, raw)
    except Invalid as refused:
        reason = refused.reason
    else:
        assert WRITER.normalise(namespace, found.value) == found
    assert reason in {None, "EMPTY_IDENTIFIER", "INVALID_IDENTIFIER", "IDENTIFIER_BLOCKED"}


def test_no_two_lists_of_parts_are_one_composite() -> None:
    one = NORMALISER.compose("person", {"name": 'a","b', "birthday": "c"})
    other = NORMALISER.compose("person", {"name": "a", "birthday": 'b","c'})
    assert one.key != other.key


@pytest.mark.parametrize("normaliser", ["text", "lower_case", "words", "unspaced"])
@pytest.mark.parametrize("blank", ["", " \u3000", "-", "--/--", "?", ". .", "\u2014", "\u200b"])
def test_a_part_without_a_letter_or_a_number_says_nothing(
    normaliser: Normaliser, blank: str
) -> None:
    parts = (Part(name="name", normaliser=normaliser), Part(name="birthday"))
    rules = IdentityRules(namespaces=(Namespace(name="person", values_max=1, parts=parts),))
    composing = IdentifierNormaliser(b"a pepper for the tests", rules=lambda: Rules(identity=rules))
    assert composing.compose("person", {"name": "山", "birthday": "1"}).value
    with pytest.raises(Invalid) as refused:
        composing.compose("person", {"name": blank, "birthday": "1970-01-01"})
    assert refused.value.reason == "EMPTY_IDENTIFIER"


@pytest.mark.parametrize("parts", [{"name": "a"}, {"name": "a", "city": "b"}, {}])
def test_a_composite_needs_exactly_its_parts(parts: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="person"):
        NORMALISER.compose("person", parts)
    with pytest.raises(Invalid):
        NORMALISER.normalise("person", "yamada")
