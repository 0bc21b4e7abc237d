"""What the read side can fail with.

ReadSideError
├── ReadSideNotReady   nobody has made the read side yet: try again
├── ReadSideOutdated   its rows were made by another schema: rebuild it
├── CheckpointMoved    another projector writes to the same read side: stop
├── StoreFailed        the disk or the database failed: restart
├── PoisonEvent        a workspace or clock event cannot be folded: the projector stops
├── FoldFailed         a fold failed on one event; `fold.py` turns it into parking
└── CustomerParked     an event of the customer could not be folded: no view, no yes (R10)
"""

from __future__ import annotations

from domain.errors import Kind


class ReadSideError(Exception):
    """Carry a stable reason and a message without personal data."""

    kind = Kind.UNAVAILABLE
    reason = "READ_SIDE_FAILED"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ReadSideNotReady(ReadSideError):
    """Nobody has made the read side yet."""

    reason = "READ_SIDE_NOT_READY"


class ReadSideOutdated(ReadSideError):
    """The rows were made by another schema."""

    reason = "READ_SIDE_OUTDATED"


class CheckpointMoved(ReadSideError):
    """The read side is not where this projector left it."""

    kind = Kind.CONFLICT
    reason = "CHECKPOINT_MOVED"


class StoreFailed(ReadSideError):
    """The disk or the database failed."""

    reason = "STORE_FAILED"


class PoisonEvent(ReadSideError):
    """An event that everything depends on cannot be folded."""

    reason = "POISON_EVENT"

    def __init__(self, revision: int, fault: str) -> None:
        super().__init__(f"event {revision} cannot be folded: {fault}")
        self.revision = revision


class FoldFailed(ReadSideError):
    """A fold failed on one event, in the same way each time."""

    reason = "FOLD_FAILED"

    def __init__(self, revision: int, fault: str) -> None:
        super().__init__(f"fold failed on event {revision}: {fault}")
        self.revision = revision
        self.fault = fault


class CustomerParked(ReadSideError):
    """An event of the customer could not be folded; its rows are not to be used."""

    reason = "CUSTOMER_PARKED"

    def __init__(self, revision: int) -> None:
        super().__init__(f"the customer waits since event {revision}, which cannot be folded")
        self.revision = revision
