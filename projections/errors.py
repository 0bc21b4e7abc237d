"""What the read side can fail with.

ReadSideError
├── ReadSideNotReady   nobody has made the read side yet: try again
├── ReadSideOutdated   its rows were made by another schema: rebuild it
├── CheckpointMoved    another projector writes to the same read side: stop
├── KeysNotHeld        rows are sealed under keys that were not loaded: fetch them, read again
├── KeyDamaged         the key of a record cannot be read, and nobody destroyed it
├── RowUnreadable      a sealed row is not what was written: rebuild the read side
├── StoreFailed        the disk or the database failed: restart
├── PoisonEvent        a workspace or clock event cannot be folded: the projector stops
├── FoldFailed         a fold failed on one event; `fold.py` turns it into parking
├── PartRefused        a part of a batch cannot be folded by itself: the batch is folded whole
└── CustomerParked     an event of the customer could not be folded: no view, no yes (R10)

NotFound
└── CustomerErased     nothing is told of somebody erased, as of whatever time (R14)
"""

from __future__ import annotations

from domain.errors import Kind, NotFound
from domain.ids import RecordId


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


class KeysNotHeld(ReadSideError):
    """Rows are sealed under the keys of records whose keys were not loaded."""

    reason = "KEYS_NOT_HELD"

    def __init__(self, record_ids: frozenset[RecordId]) -> None:
        super().__init__(f"the keys of {len(record_ids)} records are not at hand")
        self.record_ids = record_ids


class KeyDamaged(ReadSideError):
    """The key of a record cannot be read, and nobody destroyed it."""

    kind = Kind.DAMAGED
    reason = "KEY_DAMAGED"

    def __init__(self, record_id: RecordId) -> None:
        super().__init__(f"the key of record {record_id} cannot be read")


class RowUnreadable(ReadSideError):
    """A sealed row was not written with its record's key, or was changed since."""

    kind = Kind.DAMAGED
    reason = "ROW_UNREADABLE"

    def __init__(self, table: str) -> None:
        super().__init__(f"a row of {table} is not what was written")


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


class PartRefused(ReadSideError):
    """A part of a batch cannot be folded beside the others, or whoever folded it is gone."""

    reason = "PART_REFUSED"


class CustomerParked(ReadSideError):
    """An event of the customer could not be folded; its rows are not to be used."""

    reason = "CUSTOMER_PARKED"

    def __init__(self, revision: int) -> None:
        super().__init__(f"the customer waits since event {revision}, which cannot be folded")
        self.revision = revision


class CustomerErased(NotFound):
    """The person was erased: nothing is told of them, as of whatever time (R14)."""

    def __init__(self) -> None:
        super().__init__("CUSTOMER_ERASED", "the customer was erased, also from the past")
