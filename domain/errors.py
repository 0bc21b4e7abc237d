"""Why a command is not carried out. Each error has a kind and a stable reason for the edge.

DomainError
├── Invalid             the command can never succeed as it is
├── NotFound            what it names does not exist
├── Denied              who asks may not ask this
├── Changed             the customer is not as it was when the command was thought of
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
    CHANGED = "changed"
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


class Changed(DomainError):
    """The customer is not as it was at the revision that a command names; 0: nobody is known."""

    kind = Kind.CHANGED

    def __init__(self, current_revision: int) -> None:
        super().__init__("CUSTOMER_CHANGED", "the customer has changed since expected_revision")
        self.current_revision = current_revision


class Refused(DomainError):
    """A rule forbids the command in the present state."""

    kind = Kind.REFUSED


class PurposeClosed(Refused):
    """No purpose of the source is open for the person."""

    def __init__(self, source: str) -> None:
        super().__init__("PURPOSE_CLOSED", f"no purpose of source {source} is open for this person")
