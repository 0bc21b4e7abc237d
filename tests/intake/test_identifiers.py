"""Normalising identifiers: one value, one key, and no value in any error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.intake.identifiers import IdentifierNormaliser
from domain.errors import Invalid
from domain.identity_rules import DEFAULT_IDENTITY_RULES


def wide(text: str) -> str:
    """Write ASCII full-width, as Japanese keyboards do."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


NAMESPACES = [namespace.name for namespace in DEFAULT_IDENTITY_RULES.namespaces]
NORMALISER = IdentifierNormaliser(b"a pepper for the tests")


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
        ("anonymous_id", "x" * 256, "x" * 256),
    ],
)
def test_values_are_normalised(namespace: str, raw: str, value: str) -> None:
    assert NORMALISER.normalise(namespace, raw).value == value


@pytest.mark.parametrize(
    ("namespace", "raw", "reason"),
    [
        ("user_id", "", "EMPTY_IDENTIFIER"),
        ("user_id", " \u3000\t", "EMPTY_IDENTIFIER"),
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


@given(st.sampled_from(NAMESPACES), st.text(st.characters(exclude_categories=[])))
def test_any_text_is_normalised_or_refused(namespace: str, raw: str) -> None:
    reason: str | None = None
    try:
        found = NORMALISER.normalise(namespace, raw)
    except Invalid as refused:
        reason = refused.reason
    else:
        assert NORMALISER.normalise(namespace, found.value) == found
    assert reason in {None, "EMPTY_IDENTIFIER", "INVALID_IDENTIFIER", "IDENTIFIER_BLOCKED"}
