"""Normalise identifiers and give them their keys, at the edge where raw values enter.

Two writings of one value (full-width, upper case, with characters that nobody sees) get one key;
the key is an HMAC, so it may stand where the value may not. Values that name nobody are told apart
here, and composites are made of their parts, by the workspace's rules. No error here ever contains
a value. Called by intake and by `services`; the domain sees only the result.
"""

from __future__ import annotations

import hmac
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from domain.errors import Invalid
from domain.identity import Identifier, LeftOut, LeftOutReason
from domain.identity_rules import IdentityRules, Namespace, Normaliser
from domain.ids import IdentifierKey
from domain.rules import Rules

IDENTIFIER_CHARACTERS_MAX = 256
RAW_CHARACTERS_MAX = 1_024
"""Longer raw values are refused before any work is done on them."""
NORMALISED_CACHED_MAX = 16_384
KEY_BYTES = 20
PEPPER_BYTES_MIN = 16

UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that no id or name may hold: controls, surrogates, line separators."""

REPLACEMENT_CHARACTER = "\ufffd"
"""What a decoder leaves where bytes were lost: two ids that hold it could be one by accident."""

_FORMAT = "Cf"
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff]"
)
"""Unicode's default-ignorable code points of other categories: fillers, variation selectors."""

_APOSTROPHES = re.compile("['\u2019\u02bc`]")
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_BESIDE_NO_NUMBER = re.compile(r"(?<!\d) | (?!\d)")
_PHONE = re.compile(r"\+[\d\s().\-/]+")


def has_unprintable(text: str) -> bool:
    """Say whether a text holds a control character, a surrogate or a line separator."""
    if text.isprintable():
        return False
    return any(unicodedata.category(character) in UNPRINTABLE for character in text)


class Blocked(Invalid):
    """The value is one that names nobody; `left_out` says which key that would have been."""

    def __init__(self, key: IdentifierKey) -> None:
        super().__init__("IDENTIFIER_BLOCKED", "an identifier has a value that names nobody")
        self.left_out = LeftOut(key=key, reason=LeftOutReason.BLOCKED)


class IdentifierNormaliser:
    """Turn (namespace, raw value) into an `Identifier`, for one pepper and one scheme of keys.

    `rules` gives the workspace's rules as they are now. A namespace's values are written as they
    always were (`domain/rules.py`), so a key is found whatever has become of the rules since.
    """

    def __init__(
        self,
        pepper: bytes,
        scheme: str = "v1",
        *,
        rules: Callable[[], Rules] = Rules,
    ) -> None:
        if len(pepper) < PEPPER_BYTES_MIN:
            raise ValueError(f"a pepper has at least {PEPPER_BYTES_MIN} bytes")
        self._pepper = pepper
        self._scheme = scheme
        self._rules = rules
        self._judged_by: IdentityRules | None = None
        self._cached = lru_cache(maxsize=NORMALISED_CACHED_MAX)(self._judge)

    @property
    def rules(self) -> IdentityRules:
        """What is an identifier now."""
        return self._rules().identity

    def normalise(self, namespace: str, raw: str) -> Identifier:
        """Normalise one identifier.

        Raises `Invalid` with UNKNOWN_NAMESPACE, EMPTY_IDENTIFIER, INVALID_IDENTIFIER, or `Blocked`.
        """
        if len(raw) > RAW_CHARACTERS_MAX:
            self._rule(namespace)
            raise _invalid(namespace)
        rules = self._rules().identity
        if rules is not self._judged_by:
            self._judged_by = rules
            self._cached.cache_clear()
        return self._cached(namespace, raw)

    def compose(self, namespace: str, parts: Mapping[str, str]) -> Identifier:
        """Make one identifier of all the parts of a composite. Raises as `normalise`.

        A part without a letter or a number, such as a dash, is empty.
        """
        rule = self._rule(namespace)
        identifier, values = self._composed(rule, parts)
        if any(map(rule.blocks, values)):
            raise Blocked(identifier.key)
        return identifier

    def sought(self, namespace: str, raw: str, parts: Mapping[str, str]) -> Identifier:
        """Give the identifier of a value, or of parts, by which somebody may be known.

        It may be blocked by now, or its namespace gone. Raises as `normalise`, but not `Blocked`.
        """
        rule = self._rules().any_namespace(namespace)
        if rule is None:
            raise _unknown()
        if parts:
            return self._composed(rule, parts)[0]
        if rule.parts or len(raw) > RAW_CHARACTERS_MAX:
            raise _invalid(namespace)
        return self._named(namespace, _normal_form(rule.normaliser, namespace, raw))

    def _composed(self, rule: Namespace, parts: Mapping[str, str]) -> tuple[Identifier, list[str]]:
        """Write the parts of a composite, and make its identifier of them."""
        namespace = rule.name
        if not rule.parts or parts.keys() != {part.name for part in rule.parts}:
            raise _invalid(namespace)
        values = []
        for part in rule.parts:
            raw = parts[part.name]
            if len(raw) > RAW_CHARACTERS_MAX:
                raise _invalid(namespace)
            value = _normal_form(part.normaliser, namespace, raw)
            if not _words(value):
                raise _empty(namespace)
            values.append(value)
        return self._named(namespace, _joined(values)), values

    def _rule(self, namespace: str) -> Namespace:
        rule = self._rules().identity.namespace(namespace)
        if rule is None:
            raise _unknown()
        return rule

    def _judge(self, namespace: str, raw: str) -> Identifier:
        """Normalise under the rules as they are now, and refuse a value that names nobody."""
        rule = self._rule(namespace)
        if rule.parts:
            raise _invalid(namespace)
        identifier = self._named(namespace, _normal_form(rule.normaliser, namespace, raw))
        if rule.blocks(identifier.value):
            raise Blocked(identifier.key)
        return identifier

    def _named(self, namespace: str, value: str) -> Identifier:
        digest = hmac.digest(self._pepper, f"{namespace}\0{value}".encode(), sha256)
        key = IdentifierKey(f"{self._scheme}.{digest[:KEY_BYTES].hex()}")
        return Identifier(namespace=namespace, value=value, key=key)


def _joined(values: list[str]) -> str:
    """Join the parts of a composite so that no two lists of parts give one text."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _normal_form(normaliser: Normaliser, namespace: str, raw: str) -> str:
    text = _seen(raw)
    if not text:
        raise _empty(namespace)
    if REPLACEMENT_CHARACTER in text or has_unprintable(text):
        raise _invalid(namespace)
    _check_length(namespace, text)
    value = _written(normaliser, text)
    if not value:
        raise _empty(namespace)
    # Some letters are longer in lower case.
    _check_length(namespace, value)
    return value


def _check_length(namespace: str, text: str) -> None:
    if len(text) > IDENTIFIER_CHARACTERS_MAX:
        raise _invalid(namespace)


def _seen(raw: str) -> str:
    """Give what is seen of a text, in NFKC and trimmed.

    Joiners mean something in some scripts, but no two people are told apart by them.
    """
    text = unicodedata.normalize("NFKC", raw)
    if not text.isascii():
        seen = (c for c in _IGNORABLE.sub("", text) if unicodedata.category(c) != _FORMAT)
        # Letters and marks that an unseen character parted stand side by side now.
        text = unicodedata.normalize("NFKC", "".join(seen))
    return text.strip()


def _written(normaliser: Normaliser, text: str) -> str:
    match normaliser:
        case "email":
            return _email(text)
        case "phone":
            return _phone(text)
        case "lower_case":
            return " ".join(_lower(text).split())
        case "words":
            return " ".join(sorted(_words(text)))
        case "unspaced":
            return _unspaced(text)
        case "text":
            return text


def _lower(text: str) -> str:
    """Write in lower case, in NFKC: a small letter may join with a mark that no capital joins."""
    return unicodedata.normalize("NFKC", text.lower())


def _words(text: str) -> list[str]:
    """Give the words of a text, case-folded; an apostrophe parts none: O'Brien is OBrien."""
    folded = unicodedata.normalize("NFKC", _APOSTROPHES.sub("", text).casefold())
    marks = (c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    return "".join(marks).split()


def _unspaced(text: str) -> str:
    """Let nothing part words; what a space parted may join with a mark, so in NFKC once more."""
    return unicodedata.normalize("NFKC", _BESIDE_NO_NUMBER.sub("", " ".join(_words(text))))


def _email(text: str) -> str:
    # `test_environment` admits the reserved top-level domain .test, nothing else.
    try:
        address = validate_email(text, check_deliverability=False, test_environment=True)
    except (EmailNotValidError, ValueError):
        raise _invalid("email") from None
    return _lower(address.normalized)


def _phone(text: str) -> str:
    """Write a number with its country code as E.164.

    Whether a range is in use is not asked: new ranges open faster than the tables are updated.
    """
    dialled = _DASHES.sub("-", text)
    if not _PHONE.fullmatch(dialled):
        raise _invalid("phone")
    try:
        number = phonenumbers.parse(dialled, None)
    except phonenumbers.NumberParseException:
        raise _invalid("phone") from None
    if not phonenumbers.is_possible_number(number):
        raise _invalid("phone")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _unknown() -> Invalid:
    return Invalid("UNKNOWN_NAMESPACE", "the namespace is not one of this workspace")


def _empty(namespace: str) -> Invalid:
    return Invalid("EMPTY_IDENTIFIER", f"an identifier of namespace {namespace} is empty")


def _invalid(namespace: str) -> Invalid:
    return Invalid("INVALID_IDENTIFIER", f"an identifier of namespace {namespace} is malformed")
