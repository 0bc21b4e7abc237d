"""A log for the read side, made in memory: rules, segments, then signals and traits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from domain.identity import Identifier
from domain.identity_events import IdentifiersLinked
from domain.ids import (
    CLOCK_STREAM,
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    RecordId,
    Stream,
    record_stream,
)
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import Signal
from domain.workspace_events import (
    ClockAdvanced,
    PurposeDefined,
    SegmentActivated,
    SegmentDefined,
    SourceRegistered,
)
from eventlog.port import Entry

START = datetime(2026, 1, 1, tzinfo=UTC)
SIGNAL_NAMES = tuple(f"Signal {number}" for number in range(20))
SIGNALS_EACH = 5
COUNTRIES = ("JP", "US", "DE", "BR")


@dataclass(slots=True)
class Happenings:
    """A log that grows by one event a second."""

    entries: list[Entry] = field(default_factory=list)
    versions: dict[Stream, int] = field(default_factory=dict)
    drawn: random.Random = field(default_factory=lambda: random.Random(7))

    def rules(self) -> None:
        """Define one purpose, and the source that serves it."""
        purpose = PurposeDefined(purpose="service", basis=LawfulBasis.CONTRACT)
        self.append(WORKSPACE_STREAM, purpose)
        self.append(WORKSPACE_STREAM, SourceRegistered(source="shop", purposes=("service",)))

    def segments(self, number: int) -> None:
        """Define segments of every kind, and let them take effect."""
        for place, expression in zip(range(number), _expressions(), strict=False):
            self.segment(f"segment_{place}", expression)

    def segment(self, name: str, expression: str) -> None:
        """Define a segment, and let it take effect."""
        defined = SegmentDefined(
            segment=name, definition=1, expression=expression, purposes=("service",)
        )
        self.append(WORKSPACE_STREAM, defined)
        self.append(WORKSPACE_STREAM, SegmentActivated(segment=name, definition=1))

    def people(self, number: int) -> None:
        """Let each of so many customers say where they live."""
        for who in range(number):
            traits = {"country": self.drawn.choice(COUNTRIES), "tier": self.drawn.randrange(5)}
            self.append(_record(who), TraitsSet(source="shop", traits=dict(traits)))

    def lives(self, number: int) -> list[RecordId]:
        """Let customers be known by two identifiers, say more, and do something; name them."""
        for who in range(number):
            held = tuple(_identifier(namespace, who) for namespace in ("email", "user_id"))
            keys = tuple(identifier.key for identifier in held)
            linked = IdentifiersLinked(source="shop", keys=keys, identifiers=held)
            self.append(_record(who), linked)
            traits = {"name": f"Person {who}", "city": "Kyoto", "points": who, "is_member": True}
            self.append(_record(who), TraitsSet(source="shop", traits=dict(traits)))
            for _ in range(SIGNALS_EACH):
                self.append(_record(who), self._signals())
        return [RecordId(_record(who).key) for who in range(number)]

    def signals(self, number: int, *, customers: int) -> None:
        """Let so many signals come from any of these customers."""
        for _ in range(number):
            recorded = self._signals()
            self.append(_record(self.drawn.randrange(customers)), recorded)

    def advance(self, to: datetime) -> Entry:
        """Let time pass."""
        return self.append(CLOCK_STREAM, ClockAdvanced(to=to))

    def append(self, stream: Stream, body: Event) -> Entry:
        """Store one event."""
        revision = len(self.entries) + 1
        version = self.versions[stream] = self.versions.get(stream, 0) + 1
        event = Recorded(
            stream=stream,
            version=version,
            revision=revision,
            event_id=EventId(str(UUID(int=revision))),
            happened_at=self._now(),
            recorded_at=self._now(),
            command_id=CommandId(str(UUID(int=revision))),
            decision_id=DecisionId(str(UUID(int=revision))),
            part=1,
            parts=1,
            auth_id="benchmark",
            body=body,
        )
        digest = sha256(str(revision).encode()).digest()
        entry = Entry(event, stream, revision, version, digest, digest)
        self.entries.append(entry)
        return entry

    def _signals(self) -> SignalsRecorded:
        signal = Signal(
            message_id=f"m{len(self.entries)}",
            name=self.drawn.choice(SIGNAL_NAMES),
            happened_at=self._now(),
            properties={"amount": self.drawn.randrange(10_000) / 100, "sku": "abc"},
        )
        return SignalsRecorded(source="shop", signals=(signal,))

    def _now(self) -> datetime:
        return START + timedelta(seconds=len(self.entries))


def _record(number: int) -> Stream:
    return record_stream(RecordId(str(UUID(int=(0x0190_0000_0000_7000_8000 << 48) + number))))


def _identifier(namespace: str, number: int) -> Identifier:
    key = IdentifierKey(f"bench.{sha256(f'{namespace}/{number}'.encode()).hexdigest()}")
    return Identifier(namespace=namespace, value=f"person{number}@example.org", key=key)


def _expressions() -> Iterator[str]:
    while True:
        for name in SIGNAL_NAMES:
            yield f'count("{name}", "30d") >= 3'
            yield f'seen("{name}", "7d") && traits.country == "JP"'
            yield f'sum("{name}", "amount", "30d") > 100.0'
            yield 'traits.country == "JP" && traits.tier >= 3'
            yield f'count("{name}", "ever", "properties.amount > 50.0") >= 2'
