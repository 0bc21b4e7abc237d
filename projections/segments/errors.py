"""Why an expression is refused, and what a reader of segments can fail with.

SegmentError
├── InvalidExpression   it can never be a segment: each fault with its place
├── UnknownSegment      no active segment of that name
├── PurposeNotServed    the segment does not serve the purpose that was named (R12)
├── AudienceTooLarge    the audience is made of too many parts
├── InvalidAudience     parts of it cannot be answered: each fault with its place
├── TraitNotIndexed     no index over the trait serves the purpose: declare one
├── TraitNotOpen        the index holds HMACs, which have no order
├── IndexNotReady       the index is being made: try again
├── RangeTooWide        too many values are within the range: define a segment
├── InvalidToken        a token that was never given out
├── ChangesNotKept      what is asked for is older than the journal: list, then watch from there
├── StaleToken          the page's set is no longer kept: start again
└── TooManyPins         as many lists as may be are being read: try again
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import DomainError, Kind


@dataclass(frozen=True, slots=True)
class ExpressionFault:
    """What is wrong, and where: line and column from 1, offset in characters from 0."""

    reason: str
    message: str
    offset: int = 0
    line: int = 1
    column: int = 1


class SegmentError(Exception):
    """Carry a stable reason and a message."""

    kind = Kind.INVALID
    reason = "SEGMENT_FAILED"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidExpression(SegmentError):
    """The expression cannot be a segment."""

    reason = "INVALID_EXPRESSION"

    def __init__(self, faults: tuple[ExpressionFault, ...]) -> None:
        first = faults[0]
        super().__init__(f"line {first.line}, column {first.column}: {first.message}")
        self.faults = faults


class UnknownSegment(SegmentError):
    """No active segment has that name."""

    kind = Kind.NOT_FOUND
    reason = "UNKNOWN_SEGMENT"


class PurposeNotServed(SegmentError):
    """The segment does not serve the purpose that was named."""

    kind = Kind.REFUSED
    reason = "PURPOSE_NOT_SERVED"


class AudienceTooLarge(SegmentError):
    """The audience is made of too many parts."""

    reason = "AUDIENCE_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class AudienceFault:
    """What is wrong with a part of an audience, and where the part stands in it."""

    place: str
    error: SegmentError | DomainError


class InvalidAudience(SegmentError):
    """Parts of the audience cannot be answered; kind and reason are those of the first."""

    def __init__(self, faults: tuple[AudienceFault, ...]) -> None:
        first = faults[0].error
        super().__init__(f"{faults[0].place}: {first.message}")
        self.kind, self.reason, self.faults = first.kind, first.reason, faults


class TraitNotIndexed(SegmentError):
    """No index over the trait serves the purpose."""

    kind = Kind.REFUSED
    reason = "TRAIT_NOT_INDEXED"


class TraitNotOpen(SegmentError):
    """The index over the trait cannot tell which value is greater."""

    kind = Kind.REFUSED
    reason = "TRAIT_NOT_OPEN"


class IndexNotReady(SegmentError):
    """The index over the trait is being made."""

    kind = Kind.UNAVAILABLE
    reason = "INDEX_NOT_READY"


class RangeTooWide(SegmentError):
    """Too many values are within the range."""

    kind = Kind.REFUSED
    reason = "RANGE_TOO_WIDE"


class InvalidToken(SegmentError):
    """The token was never given out."""

    reason = "INVALID_FIELD"


class ChangesNotKept(SegmentError):
    """What is asked for is older than the changes that are kept."""

    kind = Kind.REFUSED
    reason = "CHANGES_NOT_KEPT"


class StaleToken(SegmentError):
    """The set that the pages are of is no longer kept."""

    kind = Kind.REFUSED
    reason = "STALE_PAGE_TOKEN"


class TooManyPins(SegmentError):
    """As many lists as may be are being read."""

    kind = Kind.UNAVAILABLE
    reason = "TOO_MANY_LISTS"
