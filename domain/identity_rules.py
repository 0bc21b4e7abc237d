"""What counts as an identifier in a workspace: namespaces, the strongest first, and their limits.

Versioned events of the workspace; `DEFAULT_IDENTITY_RULES` holds until the first. Normalising and
blocking happen at the edge, by these rules; the domain ranks identifiers and counts them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from domain.event import ShortText
from domain.identity import Identifier
from domain.ids import IDENTIFIERS_PER_CUSTOMER_MAX, Name

NAMESPACES_MAX = 64
BLOCKED_VALUES_MAX = 256
BLOCKED_PATTERNS_MAX = 64
PARTS_MAX = 8

Normaliser = Literal["text", "lower_case", "email", "phone", "words", "unspaced"]
"""How a value is written: NFKC, trimmed and without unseen characters, also in lower case, or as an
address or E.164; or as its words alone, whatever their order and what stands between them; or as
its letters and numbers in their order, where nothing parts words and anything parts two numbers."""


class Part(BaseModel):
    """A weak part of a composite, named as the trait that holds it; alone it identifies nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ShortText
    normaliser: Normaliser = "lower_case"


class Namespace(BaseModel):
    """What identifiers of one namespace are, and how many values a customer may have.

    With `parts` it is a composite: its value is made of all of them, and given in no other way.
    Blocked values and patterns (`*` any text, `?` one character) are compared with the normalised
    value, in lower case. A single 0 may be the first of somebody's numbers: zeros are two or more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    normaliser: Normaliser = "text"
    values_max: Annotated[int, Field(ge=1, le=IDENTIFIERS_PER_CUSTOMER_MAX)]
    blocked_values: Annotated[tuple[ShortText, ...], Field(max_length=BLOCKED_VALUES_MAX)] = ()
    blocked_patterns: Annotated[tuple[ShortText, ...], Field(max_length=BLOCKED_PATTERNS_MAX)] = ()
    blocks_zeros: bool = True
    parts: Annotated[tuple[Part, ...], Field(max_length=PARTS_MAX)] = ()

    @model_validator(mode="after")
    def _has_whole_parts(self) -> Self:
        names = {part.name for part in self.parts}
        if len(self.parts) == 1 or len(names) != len(self.parts):
            raise ValueError("a composite has two or more different parts")
        return self

    def writes_otherwise(self, other: Namespace) -> bool:
        """Whether the same value has another key there."""
        return (self.normaliser, self.parts) != (other.normaliser, other.parts)

    def blocks(self, value: str) -> bool:
        """Say whether a normalised value is one that names nobody."""
        text = value.lower()
        if self.blocks_zeros and _is_all_zeros(text):
            return True
        if any(text == blocked.lower() for blocked in self.blocked_values):
            return True
        return any(_fits(text, pattern.lower()) for pattern in self.blocked_patterns)


class IdentityRules(BaseModel):
    """The namespaces of a workspace, the strongest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespaces: Annotated[tuple[Namespace, ...], Field(min_length=1, max_length=NAMESPACES_MAX)]
    _ranks: dict[str, int] = PrivateAttr(default_factory=dict)

    def model_post_init(self, _context: object) -> None:
        """Give each namespace its rank, once: every command asks for it."""
        self._ranks = {namespace.name: rank for rank, namespace in enumerate(self.namespaces)}

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(self._ranks) != len(self.namespaces):
            raise ValueError("a namespace is named twice")
        return self

    def namespace(self, name: str) -> Namespace | None:
        """Find a namespace."""
        rank = self._ranks.get(name)
        return None if rank is None else self.namespaces[rank]

    def strength(self, identifier: Identifier) -> tuple[int, str]:
        """Order identifiers, the strongest first; ties by key, so that input order never counts."""
        # Asked for by name it would go through pydantic's __getattr__, at three times the time.
        ranks: dict[str, int] = (self.__pydantic_private__ or {})["_ranks"]
        return (ranks.get(identifier.namespace, len(ranks)), identifier.key)

    def values_max(self, namespace: str) -> int:
        """Say how many values a customer may have; of a namespace that is gone, any number."""
        known = self.namespace(namespace)
        return IDENTIFIERS_PER_CUSTOMER_MAX if known is None else known.values_max


_NOBODY = ("null", "none", "nil", "undefined", "unknown", "anonymous", "n/a", "nan", "guest")

DEFAULT_IDENTITY_RULES = IdentityRules(
    namespaces=(
        Namespace(name="user_id", values_max=1, blocked_values=_NOBODY),
        Namespace(
            name="email",
            normaliser="email",
            values_max=5,
            blocked_patterns=("test@*", "noreply@*", "no-reply@*", "*@example.invalid"),
        ),
        Namespace(name="phone", normaliser="phone", values_max=5),
        Namespace(name="loyalty_id", values_max=5, blocked_values=_NOBODY),
        Namespace(name="device_id", values_max=100, blocked_values=_NOBODY),
        Namespace(name="anonymous_id", values_max=400, blocked_values=_NOBODY),
    )
)
"""The rules of a new workspace."""


def _fits(text: str, pattern: str) -> bool:
    """Compare with a pattern of `*` and `?`; a bracket means itself, no class of characters."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _is_all_zeros(text: str) -> bool:
    if "0" not in text:
        return False
    marks = [character for character in text if character.isalnum()]
    return len(marks) > 1 and all(mark == "0" for mark in marks)
