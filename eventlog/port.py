"""The event log as everything above sees it: one total order of events over many streams.

An implementation keeps three promises. Appends are all or none, and only where every stream still
has the head that was expected (R1). An outcome is one of four, and `Unknown` is given only after
the log itself was asked until the deadline (R2). What was stored is read back in order, without
gaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from domain.event import Event, Recorded
from domain.ids import CommandId, DecisionId, EventId, Stream
from eventlog.keys.key_ring import KeyRing

ZERO_DIGEST = bytes(32)

STREAMS_PER_READ_MAX = 1_000
"""Streams that one read of the log is limited to; `load_many` takes any number."""


class Head(NamedTuple):
    """The last event of a stream: revision, version and digest; all zero for an empty stream."""

    revision: int = 0
    version: int = 0
    digest: bytes = ZERO_DIGEST


EMPTY = Head()


class Draft(NamedTuple):
    """An event that is to be stored. `part` of `parts` is its place in its decision, from 1."""

    stream: Stream
    event_id: EventId
    body: Event
    happened_at: datetime
    recorded_at: datetime
    command_id: CommandId
    correlation_id: str
    decision_id: DecisionId
    part: int
    parts: int
    auth_id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """Drafts that are stored together, in this order, or not at all.

    `expected` holds the head of every stream that the drafts touch, as the writer knows it. At most
    `domain.ids.EVENTS_PER_APPEND_MAX` drafts.
    """

    drafts: tuple[Draft, ...]
    expected: Mapping[Stream, Head]


@dataclass(frozen=True, slots=True)
class Stored:
    """All drafts are in the log, as these events; `heads` are the new heads of their streams."""

    events: tuple[Recorded[Event], ...]
    heads: Mapping[Stream, Head] = field(default_factory=dict)

    @property
    def revision(self) -> int:
        """The revision of the last event."""
        return self.events[-1].revision


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing was stored: at least one stream has moved on. Load it and decide again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was stored and never will be; `reason` is stable."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The deadline passed before the log could say whether the drafts were stored."""


Outcome = Stored | Conflict | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Remains:
    """What is known of an event that cannot be read: its type, and the parts of its decision.

    `event` is what it says without what is personal, as after an erasure, where that can be read.
    """

    event_type: str
    parts: int
    event: Recorded[Event] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as read: decoded, with its digest and its stream's digest before it.

    `event` is None where it cannot be decoded (`fault` says why); its place is still sure.
    `ends_append` is false where the next revision was stored by the same append: a reader that
    keeps a checkpoint moves it only past an entry that ends one. `recorded_at` is None where even
    the envelope cannot be read. `remains` is what such an event still says, unless it may not.
    """

    event: Recorded[Event] | None
    stream: Stream
    revision: int
    version: int
    previous: bytes
    digest: bytes
    ends_append: bool = True
    fault: str | None = None
    recorded_at: datetime | None = None
    remains: Remains | None = None

    @property
    def head(self) -> Head:
        """The stream's head as of this event."""
        return Head(self.revision, self.version, self.digest)


@dataclass(frozen=True, slots=True)
class Witness:
    """What a mark, a checkpoint or an attestation knows of the log: an event and its digest."""

    source: str
    revision: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """What a log that never deletes cannot have otherwise (R3), and the server's clock."""

    first_revision: int
    last_revision: int
    deleted: int
    lost: int
    server_time: datetime | None

    @property
    def faults(self) -> tuple[str, ...]:
        """Name what is wrong with the shape; empty when it holds."""
        found = []
        if self.last_revision and self.first_revision != 1:
            found.append("first_revision_not_1")
        if self.deleted:
            found.append("deleted_events")
        if self.lost:
            found.append("lost_events")
        return tuple(found)


class LogReader(Protocol):
    """One workspace's log, to read from: all that projections and replays are handed.

    Any method may raise `LogUnavailable`; reads may raise `LogDamaged`.
    """

    @property
    def workspace(self) -> str:
        """The workspace whose log this is."""

    @property
    def keys(self) -> KeyRing | None:
        """The keys that seal what is personal in it; None where bodies are open."""

    async def load(self, stream: Stream, *, after: Head = EMPTY) -> list[Entry]:
        """Read a stream after a head that the caller holds, to its end, its chain checked."""

    async def load_many(
        self,
        streams: Mapping[Stream, Head],
        *,
        concurrency: int = 32,
        recheck: Collection[Stream] = (),
    ) -> dict[Stream, list[Entry]]:
        """Load several streams, each after its head.

        Of those in `recheck` the event at the head is read again: `LogDamaged` where it is another
        one by now, or is gone.
        """

    async def last_entries(self, streams: Iterable[Stream]) -> dict[Stream, Entry]:
        """Read the last event of each stream that has one, in as few requests as can be."""

    async def last_heads(self, streams: Iterable[Stream]) -> dict[Stream, Head]:
        """Read the head of each stream that has one, without decoding or any key."""

    async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
        """Ask the leader for the revision of each stream's last event; 0 for an empty stream."""

    def read(
        self,
        *,
        after_revision: int = 0,
        through_revision: int | None = None,
        as_of: datetime | None = None,
        streams: Collection[Stream] | None = None,
        batch_events_max: int = 1_000,
    ) -> AsyncIterator[list[Entry]]:
        """Yield everything after a revision, in batches, up to the end as of the call.

        Or up to a revision, or as of a time: the longest prefix in which nothing was recorded later
        (R15). `streams` leaves out all others, at most `STREAMS_PER_READ_MAX`; their chains are
        checked then. At most two batches are fetched ahead of a reader that is slow.
        """

    def follow(
        self, *, after_revision: int, batch_events_max: int = 1_000
    ) -> AsyncIterator[list[Entry]]:
        """Yield everything after a revision, in batches, and go on for ever."""

    def survey(self) -> AsyncIterator[list[Entry]]:
        """Yield whatever can still be read of a damaged log, in order, with its gaps."""

    async def shape(self) -> Shape:
        """Ask the leader for the log's shape."""

    async def gaps(self) -> Sequence[tuple[int, int]]:
        """Give the ranges that the leader lacks before its end, or a replica read did not give.

        In order of their beginnings; they may overlap.
        """

    async def digest_at(self, revision: int) -> bytes | None:
        """Ask the leader for the digest of the event at a revision; None where it has none."""

    async def close(self) -> None:
        """Release what the log holds. The connection stays its owner's."""


class EventLog(LogReader, Protocol):
    """One workspace's log, to read from and to append to."""

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        """Store an attempt and settle its outcome. Raises nothing of the log's: see `Outcome`."""
