"""What the recorders raise: the library's own kinds of error, each with a name of ours.

InfrastructureFactoryError
└── Misconfigured               the environment cannot be used; the message names the variable
PersistenceError
├── IntegrityError
│   ├── VersionConflict         the version is recorded already: load the aggregate, decide again
│   └── VersionGap              the version does not follow the last one that is recorded
├── OperationalError
│   ├── LogAway                 no answer in time; nothing was stored: try again
│   ├── LogRefuses              a stream's settings, its size, permissions or a key are in the way
│   └── OutcomeUnknown          the time was up before the log said whether the events are stored
├── InternalError
│   └── LogBroken               what was read breaks the chain, a version or the order: stop
├── DataError
│   └── NotStorable             too many events, too large, or an id that no subject can hold
├── ProgrammingError
│   └── RecorderClosed          the factory was closed
└── NotSupportedError
    ├── WorkspaceLogIsReadOnly  the rules of a workspace's log are kept by its hosts alone
    ├── SnapshotsNotOffered     a workspace's snapshots are Koseki's own
    ├── TrackingNotOffered      tracking cannot be stored in one transaction with anything here
    └── ProcessRecorderNotOffered
MapperDeserialisationError
└── NotDecodable                a message of a workspace's log that holds no event of Koseki's
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eventsourcing.persistence import (
    DataError,
    InfrastructureFactoryError,
    IntegrityError,
    InternalError,
    MapperDeserialisationError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from eventlog.errors import LogDamaged, LogUnavailable, UnsafeStream, WorkspaceKeyMissing
from eventlog.jetstream_api import ApiError


class Misconfigured(InfrastructureFactoryError):
    """The environment cannot be used."""


class VersionConflict(IntegrityError):
    """The version is recorded already."""


class VersionGap(IntegrityError):
    """The version does not follow the last one that is recorded."""


class LogAway(OperationalError):
    """There was no answer in time, and nothing was stored."""


class LogRefuses(OperationalError):
    """A stream's settings, its size, permissions or a missing key are in the way."""


class OutcomeUnknown(OperationalError):
    """The time was up before the log said whether the events are stored."""


class LogBroken(InternalError):
    """What was read breaks the chain, a version or the order."""


class NotStorable(DataError):
    """Too many events, too large, or an id that no subject can hold."""


class RecorderClosed(ProgrammingError):
    """The factory that made the recorder was closed."""

    def __init__(self) -> None:
        super().__init__("the factory of this recorder was closed")


class WorkspaceLogIsReadOnly(NotSupportedError):
    """The rules of a workspace's log are kept by its hosts alone."""

    def __init__(self) -> None:
        super().__init__("a workspace's log is written by Koseki alone; send it a command instead")


class SnapshotsNotOffered(NotSupportedError):
    """A workspace's snapshots are Koseki's own."""

    def __init__(self) -> None:
        super().__init__("a workspace's log is read without snapshots; leave them disabled")


class TrackingNotOffered(NotSupportedError):
    """Tracking cannot be stored in one transaction with anything here."""

    def __init__(self) -> None:
        super().__init__(
            "a tracking recorder stores tracking with a view in one transaction, and a log has no"
            " views; keep the view in another module, such as eventsourcing.sqlite"
        )


class ProcessRecorderNotOffered(NotSupportedError):
    """Tracking cannot be stored in one transaction with events."""

    def __init__(self) -> None:
        super().__init__(
            "a process recorder stores events and tracking in one transaction; JetStream's do not"
            " reach beyond one stream, and an application's stream holds nothing but its events"
        )


class NotDecodable(MapperDeserialisationError):
    """A message of a workspace's log that holds no event of Koseki's."""


@contextmanager
def library_errors() -> Iterator[None]:
    """Raise what the log raises as the library's kinds of error."""
    try:
        yield
    except LogDamaged as error:
        raise LogBroken(error.message) from error
    except UnsafeStream as error:
        raise LogRefuses(error.message) from error
    except (ApiError, WorkspaceKeyMissing) as error:
        raise LogRefuses(error.message) from error
    except LogUnavailable as error:
        raise LogAway(error.message) from error
    except TimeoutError as error:
        raise LogAway("the log did not answer in time") from error
