"""What an audience is made of. Every part knows its place in what was asked, for who made it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from projections.segments.errors import AudienceTooLarge
from projections.segments.trait_values import Range

AUDIENCE_PARTS_MAX = 256
WHOLE = "audience"


@dataclass(frozen=True, slots=True)
class InSegment:
    """Who belongs to a segment."""

    segment: str
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class Having:
    """Who has a purpose open."""

    purpose: str
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class TraitKnown:
    """Of whom the purpose sees a trait, whatever it is."""

    trait: str
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class TraitIs:
    """Whose trait is one of these values."""

    trait: str
    values: tuple[JsonValue, ...]
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class TraitWithin:
    """Whose trait is within a range."""

    trait: str
    within: Range
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Who is in each of these; everybody, if there are none."""

    parts: tuple[Audience, ...]
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Who is in at least one of these."""

    parts: tuple[Audience, ...]
    place: str = field(default=WHOLE, compare=False)


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Who is in none of these."""

    parts: tuple[Audience, ...]
    place: str = field(default=WHOLE, compare=False)


OfTrait = TraitKnown | TraitIs | TraitWithin
Audience = InSegment | Having | OfTrait | AllOf | AnyOf | NoneOf


def parts_of(audience: Audience) -> Iterator[Audience]:
    """Yield an audience and all its parts; raises `AudienceTooLarge` where there are too many."""
    waiting: list[Audience] = [audience]
    for _ in range(AUDIENCE_PARTS_MAX):
        if not waiting:
            return
        part = waiting.pop()
        if isinstance(part, AllOf | AnyOf | NoneOf):
            waiting += reversed(part.parts)
        yield part
    if waiting:
        raise AudienceTooLarge(f"an audience has at most {AUDIENCE_PARTS_MAX} parts")
