"""Why an expression is refused, and what a reader of segments can fail with.

SegmentError
├── InvalidExpression   it can never be a segment: each fault with its place
├── UnknownSegment      no active segment of that name
├── PurposeNotServed    the segment does not serve the purpose that was named (R12)
├── AudienceTooLarge    the audience is made of too many parts
├── StaleToken          the page's set is no longer kept: start again
└── TooManyPins         as many lists as may be are being read: try again
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import Kind


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


class StaleToken(SegmentError):
    """The set that the pages are of is no longer kept."""

    kind = Kind.REFUSED
    reason = "STALE_PAGE_TOKEN"


class TooManyPins(SegmentError):
    """As many lists as may be are being read."""

    kind = Kind.UNAVAILABLE
    reason = "TOO_MANY_LISTS"
