"""Why a command is not carried out. Each error has a kind and a stable reason for the edge.

DomainError
├── Invalid             the command can never succeed as it is
├── NotFound            what it names does not exist
├── Denied              who asks may not ask this
└── Refused             a rule forbids it in the present state
    └── PurposeClosed   no purpose of the source is open for the person
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Class of an error, which decides its status code at the edge."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNKNOWN_OUTCOME = "unknown_outcome"
    DENIED = "denied"
    DAMAGED = "damaged"


class DomainError(Exception):
    """Carry a stable reason and a message without personal data."""

    kind = Kind.INVALID

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Invalid(DomainError):
    """The command can never succeed as it is."""


class NotFound(DomainError):
    """What the command names does not exist."""

    kind = Kind.NOT_FOUND


class Denied(DomainError):
    """Who asks may not ask this."""

    kind = Kind.DENIED


class Refused(DomainError):
    """A rule forbids the command in the present state."""

    kind = Kind.REFUSED


class PurposeClosed(Refused):
    """No purpose of the source is open for the person."""

    def __init__(self, source: str) -> None:
        super().__init__("PURPOSE_CLOSED", f"no purpose of source {source} is open for this person")
