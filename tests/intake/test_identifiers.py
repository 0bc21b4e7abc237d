"""Normalising identifiers: one value, one key, and no value in any error."""

import json
import unicodedata
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.intake.identifiers import IdentifierNormaliser
from domain.errors import Invalid
from domain.identity_rules import (
    DEFAULT_IDENTITY_RULES,
    IdentityRules,
    Namespace,
    Normaliser,
    Part,
)
from domain.rules import Rules


def wide(text: str) -> str:
    """Write ASCII full-width, as Japanese keyboards do."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


NAMESPACES = [namespace.name for namespace in DEFAULT_IDENTITY_RULES.namespaces]
NORMALISER = IdentifierNormaliser(b"a pepper for the tests")

WRITINGS = get_args(Normaliser)
PERSON = Namespace(name="person", values_max=1, parts=(Part(name="name"), Part(name="city")))
EVERY_WRITING = IdentityRules(
    namespaces=(
        PERSON,
        *(Namespace(name=writing, normaliser=writing, values_max=1) for writing in WRITINGS),
    )
)
WRITER = IdentifierNormaliser(
    b"a pepper for the tests", rules=lambda: Rules(identity=EVERY_WRITING)
)

FILLERS = "\u115f\u1160\u3164\uffa0"
JOINERS = "\u200c\u200d"
UNSEEN = f"\u200b\u2060\ufeff\u00ad\u202a\U000e0041\u034f\ufe0f\U000e0100{JOINERS}{FILLERS}"
ANY_TEXT = st.text(st.characters(exclude_categories=[]))
ODD_TEXT = st.text(
    st.sampled_from(UNSEEN + "\u0301\u0327\u0331\u030cHJΣİß\u1100\u1161\u11a8 aZ@.+0'"), max_size=12
)


@pytest.mark.parametrize(
    ("namespace", "raw", "value"),
    [
        ("user_id", " 0042 ", "0042"),
        ("user_id", "Taro", "Taro"),
        ("user_id", wide("0042"), "0042"),
        ("loyalty_id", "ｶﾅ", "カナ"),
        ("email", "Taro.Yamada@Example.COM", "taro.yamada@example.com"),
        ("email", wide("taro") + "@example.com", "taro@example.com"),
        ("email", "taro@shop.test", "taro@shop.test"),
        ("phone", "+81 90-1234-5678", "+819012345678"),
        ("phone", wide("+819012345678"), "+819012345678"),
        ("phone", "+1 (415) 555-2671", "+14155552671"),
        *(
            ("phone", f"+81{dash}90{dash}1234{dash}5678", "+819012345678")
            for dash in "\u2010\u2011\u2012\u2013\u2212\uff0d"
        ),
        ("phone", "\u202a+81 90-1234-5678\u202c", "+819012345678"),
        ("anonymous_id", "x" * 256, "x" * 256),
        ("user_id", "\ufeff u1", "u1"),
        ("user_id", "क्\u200dष", "क्ष"),
        ("email", "\u200btaro@example.com", "taro@example.com"),
    ],
)
def test_values_are_normalised(namespace: str, raw: str, value: str) -> None:
    assert NORMALISER.normalise(namespace, raw).value == value


@pytest.mark.parametrize(
    ("namespace", "raw", "reason"),
    [
        ("user_id", "", "EMPTY_IDENTIFIER"),
        ("user_id", " \u3000\t", "EMPTY_IDENTIFIER"),
        *(("user_id", unseen, "EMPTY_IDENTIFIER") for unseen in UNSEEN),
        ("user_id", f" \u200b {UNSEEN} ", "EMPTY_IDENTIFIER"),
        ("user_id", "\u200bnull", "IDENTIFIER_BLOCKED"),
        ("user_id", "J\ufffdrg", "INVALID_IDENTIFIER"),
        ("user_id", "x" * 257, "INVALID_IDENTIFIER"),
        ("user_id", "x" * 2_000_000, "INVALID_IDENTIFIER"),
        ("user_id", "a\x00b", "INVALID_IDENTIFIER"),
        ("user_id", "a\x7fb", "INVALID_IDENTIFIER"),
        ("user_id", "a\ud800b", "INVALID_IDENTIFIER"),
        ("user_id", "a\u2028b", "INVALID_IDENTIFIER"),
        ("passport", "1", "UNKNOWN_NAMESPACE"),
        ("email", "nobody", "INVALID_IDENTIFIER"),
        ("email", "a@b@c.com", "INVALID_IDENTIFIER"),
        ("phone", "090-1234-5678", "INVALID_IDENTIFIER"),
        ("phone", "+81", "INVALID_IDENTIFIER"),
        ("phone", "+1 800 FLOWERS", "INVALID_IDENTIFIER"),
        ("phone", "+1 415 555 2671 ext 5", "INVALID_IDENTIFIER"),
    ],
)
def test_what_cannot_be_used_is_refused_without_its_value(
    namespace: str, raw: str, reason: str
) -> None:
    with pytest.raises(Invalid) as refused:
        NORMALISER.normalise(namespace, raw)
    assert refused.value.reason == reason
    assert not raw.strip() or raw not in str(refused.value)


def test_a_key_stands_for_namespace_and_value_under_one_pepper() -> None:
    key = NORMALISER.normalise("user_id", "7").key
    other = IdentifierNormaliser(b"another pepper, as long", scheme="v2")
    assert key.startswith("v1.")
    assert len(key) == len("v1.") + 40
    assert key == NORMALISER.normalise("user_id", f" {wide('7')} ").key
    assert key != NORMALISER.normalise("loyalty_id", "7").key
    assert other.normalise("user_id", "7").key.startswith("v2.")
    assert other.normalise("user_id", "7").key[3:] != key[3:]


def test_a_short_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="pepper"):
        IdentifierNormaliser(b"short")


@given(st.sampled_from(WRITINGS), ANY_TEXT | ODD_TEXT)
@example("lower_case", "H\u0331")
@example("lower_case", "\u0130" * 256)
@example("email", "H\u0331@example.com")
@example("text", "e\u200d\u0301")
@example("text", " \u200b e\u034f\u0327\u0301")
@example("text", "\u1100\u115f\u1161")
@example("unspaced", "\u0130:\u0316")
@example("unspaced", "\u1100 \u1161")
def test_what_is_normalised_is_written_as_before_and_holds_nothing_unseen(
    writing: str, raw: str
) -> None:
    try:
        found = WRITER.normalise(writing, raw)
    except Invalid:
        return
    assert WRITER.normalise(writing, found.value) == found
    assert not set(found.value) & set(f"{UNSEEN}\ufffd")
    assert "Cf" not in map(unicodedata.category, found.value)


@given(ODD_TEXT, ODD_TEXT)
@example("\u200bTaro", "J\u030c")
def test_a_composite_of_normalised_parts_is_the_same(name: str, city: str) -> None:
    try:
        found = WRITER.compose("person", {"name": name, "city": city})
    except Invalid:
        return
    values = json.loads(found.value)
    assert WRITER.compose("person", dict(zip(("name", "city"), values, strict=True))) == found


@given(st.sampled_from(UNSEEN), st.integers(0, 4))
def test_unseen_characters_make_nobody_another(unseen: str, place: int) -> None:
    raw = f"{'Taro'[:place]}{unseen}{'Taro'[place:]}"
    assert NORMALISER.normalise("user_id", raw) == NORMALISER.normalise("user_id", "Taro")
    plain = WRITER.compose("person", {"name": "Taro", "city": "Kyoto"})
    assert WRITER.compose("person", {"name": raw, "city": "Kyoto"}) == plain


@pytest.mark.parametrize(
    ("raw", "reason"),
    [("\u3164", "EMPTY_IDENTIFIER"), ("J\ufffdrg", "INVALID_IDENTIFIER")],
)
def test_a_part_that_says_nothing_sure_makes_no_composite(raw: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        WRITER.compose("person", {"name": raw, "city": "Kyoto"})
    assert refused.value.reason == reason


@given(st.sampled_from(NAMESPACES), ANY_TEXT)
def test_any_text_is_normalised_or_refused(namespace: str, raw: str) -> None:
    reason: str | None = None
    try:
        found = NORMALISER.normalise(namespace, raw)
    except Invalid as refused:
        reason = refused.reason
    else:
        assert NORMALISER.normalise(namespace, found.value) == found
    assert reason in {None, "EMPTY_IDENTIFIER", "INVALID_IDENTIFIER", "IDENTIFIER_BLOCKED"}
