"""The log of a large population for `scale.py`: the same for every run, and appended resumably.

Each customer has ten events: one that links three identifiers and the three that claim them, one of
traits, five of signals. They come in passes over everybody in a scattered order, so neighbours in
the log are strangers. Where the log ends says what comes next.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from domain.consent import LawfulBasis
from domain.event import Event
from domain.identity import Identifier
from domain.identity_events import IdentifierClaimed, IdentifiersLinked
from domain.ids import (
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    RecordId,
    Stream,
    StreamKind,
    record_stream,
)
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import Signal
from domain.workspace_events import (
    PurposeDefined,
    SegmentActivated,
    SegmentDefined,
    SourceRegistered,
)
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import EMPTY, Attempt, Draft, Head, Stored

START = datetime(2026, 1, 1, tzinfo=UTC)
BETWEEN_EVENTS = timedelta(milliseconds=500)
NAMESPACES = ("email", "user_id", "device_id")
SIGNALS_EACH = 5
PASSES = 2 + SIGNALS_EACH
EVENTS_EACH = 1 + len(NAMESPACES) + 1 + SIGNALS_EACH
SIGNAL_NAMES = 200
TRAIT_NAMES = 100
TRAITS_EACH = 4
TRAIT_VALUES = 8
DECISIONS_PER_APPEND = 240
APPEND_SECONDS_MAX = 60.0
SCATTER = 7_368_787
"""A prime: multiples of it, modulo how many there are, are everybody in a scattered order."""

_HEAD = struct.Struct(">Q32s")


class Heads:
    """Where the record of each customer ends, forty bytes each."""

    def __init__(self, customers: int) -> None:
        self._stored = bytearray(_HEAD.size * customers)

    def head(self, number: int, version: int) -> Head:
        """Give the head of a record that has so many events."""
        if not version:
            return EMPTY
        revision, digest = _HEAD.unpack_from(self._stored, number * _HEAD.size)
        return Head(revision, version, digest)

    def note(self, number: int, head: Head) -> None:
        """Note a head."""
        _HEAD.pack_into(self._stored, number * _HEAD.size, head.revision, head.digest)


@dataclass(frozen=True, slots=True)
class Part:
    """Some customers, whose events come pass by pass, and the revision before their first."""

    first: int
    customers: int
    after_revision: int

    @property
    def last_revision(self) -> int:
        """The revision of their last event."""
        return self.after_revision + self.customers * EVENTS_EACH

    def decisions(self, revision: int) -> Iterator[tuple[int, int]]:
        """Yield (customer, pass) of every decision that is not in a log which ends here."""
        left = max(0, revision - self.after_revision)
        for number in range(PASSES):
            each = EVENTS_EACH - PASSES + 1 if number == 0 else 1
            done = min(self.customers, left // each)
            left -= done * each
            for place in range(done, self.customers):
                yield self.first + place * SCATTER % self.customers, number


def rules_and_segments(segments: int) -> list[Event]:
    """Give the events of a workspace with a purpose, a source and so many active segments."""
    basis = LawfulBasis.CONTRACT
    events: list[Event] = [
        PurposeDefined(purpose="service", basis=basis),
        SourceRegistered(source="shop", purposes=("service",)),
    ]
    for number in range(segments):
        name = f"segment_{number}"
        events.append(definition(name, _expression(number)))
        events.append(SegmentActivated(segment=name, definition=1))
    return events


def definition(name: str, expression: str) -> SegmentDefined:
    """Define a segment for the first time."""
    return SegmentDefined(segment=name, definition=1, expression=expression, purposes=("service",))


def _expression(number: int) -> str:
    name, trait = f"Signal {number % SIGNAL_NAMES}", f"t{number % TRAIT_NAMES}"
    other = f"t{number * 7 % TRAIT_NAMES}"
    return (
        f'count("{name}", "30d") >= 2',
        f'seen("{name}", "7d") && traits.{trait} == "v1"',
        f'sum("{name}", "amount", "30d") > 100.0',
        f'traits.{trait} == "v2" && has(traits.{other})',
        f'count("{name}", "ever", "properties.amount > 50.0") >= 2',
    )[number // SIGNAL_NAMES % 5]


async def append_rules(
    log: JetStreamEventLog, events: Sequence[Event], head: Head, *, revision: int
) -> Head:
    """Append events of the workspace to a log that ends at a revision; give its stream's head."""
    for body in events:
        revision += 1
        draft = _draft(WORKSPACE_STREAM, body, revision=revision)
        head = (await _append(log, [draft], {WORKSPACE_STREAM: head})).heads[WORKSPACE_STREAM]
    return head


async def append_part(log: JetStreamEventLog, part: Part, heads: Heads, *, revision: int) -> int:
    """Append what a log that ends at a revision lacks of a part; give where it ends then."""
    gathered: list[tuple[int, int]] = []
    for customer, number in part.decisions(revision):
        is_other_pass = bool(gathered) and gathered[-1][1] != number
        if len(gathered) == DECISIONS_PER_APPEND or is_other_pass:
            revision = await _append_decisions(log, gathered, heads, revision=revision)
            gathered.clear()
        gathered.append((customer, number))
    if not gathered:
        return revision
    return await _append_decisions(log, gathered, heads, revision=revision)


async def _append_decisions(
    log: JetStreamEventLog, decisions: Sequence[tuple[int, int]], heads: Heads, *, revision: int
) -> int:
    """Append decisions of one pass, each of another customer."""
    drafts: list[Draft] = []
    expected: dict[Stream, Head] = {}
    for customer, number in decisions:
        made = _decision(customer, number, revision + len(drafts) + 1)
        expected |= {draft.stream: EMPTY for draft in made[1:]}
        expected[made[0].stream] = heads.head(customer, number)
        drafts += made
    stored = await _append(log, drafts, expected)
    for customer, _ in decisions:
        heads.note(customer, stored.heads[record_of(customer)])
    return stored.revision


async def _append(
    log: JetStreamEventLog, drafts: Sequence[Draft], expected: dict[Stream, Head]
) -> Stored:
    outcome = await log.append(Attempt(tuple(drafts), expected), timeout_seconds=APPEND_SECONDS_MAX)
    if not isinstance(outcome, Stored):
        raise TypeError(f"an append ended as {outcome}")
    return outcome


async def read_heads(log: JetStreamEventLog, customers: int) -> Heads:
    """Read from the log where each record ends."""
    heads = Heads(customers)
    async for entries in log.read(batch_events_max=5_000):
        for entry in entries:
            if entry.stream.kind is StreamKind.RECORD:
                heads.note(number_of(RecordId(entry.stream.key)), entry.head)
    return heads


def record_of(number: int) -> Stream:
    """Name the record of a customer."""
    return record_stream(RecordId(str(UUID(int=(0x0190_0000_0000_7000_8000 << 48) + number))))


def number_of(record_id: RecordId) -> int:
    """Give the number of the customer of a record."""
    return UUID(record_id).int & 0xFFFF_FFFF_FFFF


def _decision(customer: int, number: int, revision: int) -> list[Draft]:
    record = record_of(customer)
    if number == 0:
        return _birth(customer, record, revision)
    body = _traits(customer) if number == 1 else _signals(customer, number, revision)
    return [_draft(record, body, revision=revision)]


def _birth(customer: int, record: Stream, revision: int) -> list[Draft]:
    held = tuple(_identifier(namespace, customer) for namespace in NAMESPACES)
    keys = tuple(identifier.key for identifier in held)
    linked = IdentifiersLinked(source="shop", keys=keys, identifiers=held)
    parts = 1 + len(keys)
    drafts = [_draft(record, linked, revision=revision, parts=parts)]
    claimed = IdentifierClaimed(record_id=record.key)
    for part, key in enumerate(keys, start=2):
        stream = Stream(StreamKind.IDENTIFIER, key)
        drafts.append(_draft(stream, claimed, revision=revision, part=part, parts=parts))
    return drafts


def _identifier(namespace: str, customer: int) -> Identifier:
    key = IdentifierKey(f"bench.{sha256(f'{namespace}/{customer}'.encode()).hexdigest()}")
    return Identifier(namespace=namespace, value=f"person{customer}@example.org", key=key)


def _traits(customer: int) -> TraitsSet:
    traits = {
        f"t{(customer + 37 * place) % TRAIT_NAMES}": f"v{(customer // 7 + place) % TRAIT_VALUES}"
        for place in range(TRAITS_EACH)
    }
    return TraitsSet(source="shop", traits=dict(traits))


def _signals(customer: int, number: int, revision: int) -> SignalsRecorded:
    signal = Signal(
        message_id=f"{customer}-{number}",
        name=f"Signal {(customer * 31 + number // 2) % SIGNAL_NAMES}",
        happened_at=_time_of(revision),
        properties={"amount": customer * 13 % 10_000 / 100, "sku": f"sku-{customer % 1_000}"},
    )
    return SignalsRecorded(source="shop", signals=(signal,))


def _draft(stream: Stream, body: Event, *, revision: int, part: int = 1, parts: int = 1) -> Draft:
    at, decision = _time_of(revision), str(UUID(int=(7 << 76) + revision))
    event_id = str(UUID(int=(7 << 76) + (part << 64) + revision))
    return Draft(
        stream=stream,
        event_id=EventId(event_id),
        body=body,
        happened_at=at,
        recorded_at=at,
        command_id=CommandId(decision),
        correlation_id="",
        decision_id=DecisionId(decision),
        part=part,
        parts=parts,
        auth_id="benchmark",
    )


def _time_of(revision: int) -> datetime:
    return START + BETWEEN_EVENTS * revision
