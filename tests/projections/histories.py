"""Histories for tests of the read side: events in their places, as a log would give them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import CONSENT_EVENTS, ChoiceMade, ChoicesRecorded
from domain.event import Event, Recorded
from domain.identity import Edge, Identifier
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    IdentifierClaimed,
    IdentifiersLinked,
    IdentifiersUnlinked,
)
from domain.ids import (
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    MergeId,
    OpenMap,
    RecordId,
    Stream,
    identifier_stream,
    record_stream,
)
from domain.preference_events import Preference, PreferencesSet
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import Signal
from domain.workspace_events import PurposeDefined, SourceRegistered
from eventlog.port import EMPTY, Entry, Head, Shape

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCES = {"shop": 100, "crm": 200, "web": 50}
PURPOSES = {
    "analytics": LawfulBasis.LEGITIMATE_INTEREST,
    "marketing": LawfulBasis.CONSENT,
    "service": LawfulBasis.CONTRACT,
}
SERVED = {
    "shop": ("analytics", "marketing", "service"),
    "crm": ("service",),
    "web": ("analytics",),
}


def record_id(number: int) -> RecordId:
    return RecordId(str(UUID(int=(0x0190_0000_0000_7000_8000 << 48) + number)))


def identifier(value: str, namespace: str = "email") -> Identifier:
    key = sha256(f"{namespace}:{value}".encode()).hexdigest()[:32]
    return Identifier(namespace=namespace, value=value, key=IdentifierKey(f"v1.{key}"))


def signal(
    message_id: str, name: str = "Order Completed", properties: OpenMap | None = None
) -> Signal:
    return Signal(message_id=message_id, name=name, happened_at=START, properties=properties or {})


class History:
    """Builds a log, append by append; chains, versions and revisions are as they must be."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.components: dict[RecordId, set[RecordId]] = {}
        self.edges: dict[RecordId, list[Edge]] = {}
        self._heads: dict[Stream, Head] = {}

    @property
    def events(self) -> list[Recorded[Event]]:
        return [entry.event for entry in self.entries if entry.event is not None]

    def append(self, *facts: tuple[Stream, Event], happened: int | None = None) -> list[Entry]:
        """Store events in one append; `happened` in seconds from the start."""
        first = len(self.entries)
        for part, (stream, body) in enumerate(facts, start=1):
            self._store(stream, body, happened=happened, part=part, parts=len(facts))
        return self.entries[first:]

    def rules(self) -> None:
        for name, basis in PURPOSES.items():
            self.append((WORKSPACE_STREAM, PurposeDefined(purpose=name, basis=basis)))
        for name, priority in SOURCES.items():
            body = SourceRegistered(source=name, purposes=SERVED[name], priority=priority)
            self.append((WORKSPACE_STREAM, body))

    def link(
        self, number: int, *identifiers: Identifier, source: str | None = "shop"
    ) -> list[Entry]:
        record = self._known(number)
        claims = [
            (identifier_stream(item.key), IdentifierClaimed(record_id=record))
            for item in identifiers
        ]
        keys = tuple(item.key for item in identifiers)
        body = IdentifiersLinked(source=source, keys=keys, identifiers=identifiers)
        return self.append(*claims, (record_stream(record), body))

    def signals(self, number: int, *signals: Signal, source: str = "shop") -> list[Entry]:
        body = SignalsRecorded(source=source, signals=signals)
        return self.append((record_stream(self._known(number)), body))

    def traits(
        self,
        number: int,
        traits: OpenMap,
        *,
        source: str = "shop",
        happened: int | None = None,
        until: datetime | None = None,
    ) -> list[Entry]:
        body = TraitsSet(source=source, traits=traits, expires_at=until)
        return self.append((record_stream(self._known(number)), body), happened=happened)

    def consent(
        self,
        number: int,
        purpose: str,
        state: ConsentState,
        *,
        happened: int | None = None,
        until: datetime | None = None,
    ) -> list[Entry]:
        act_id = str(UUID(int=len(self.entries) + 1))
        body = CONSENT_EVENTS[state](
            act_id=act_id, purpose=purpose, notice_version="n1", valid_until=until
        )
        members = sorted(self.components[self._known(number)])
        return self.append(
            *((record_stream(member), body) for member in members), happened=happened
        )

    def choose(self, number: int, *, happened: int, **chosen: bool) -> list[Entry]:
        """Let a source pass on what somebody chose of several purposes; no two at one time."""
        acts = tuple(
            ChoiceMade(
                act_id=str(UUID(int=(place + 1) << 64 | len(self.entries) + 1)),
                purpose=purpose,
                state=ConsentState.GIVEN if is_yes else ConsentState.WITHDRAWN,
                happened_at=START + timedelta(seconds=happened + place),
            )
            for place, (purpose, is_yes) in enumerate(sorted(chosen.items()))
        )
        body = ChoicesRecorded(source="web", acts=acts, evidence={"banner": "b1"})
        members = sorted(self.components[self._known(number)])
        return self.append(
            *((record_stream(member), body) for member in members), happened=happened
        )

    def merge(self, one: int, other: int) -> list[Entry]:
        """Join two customers, unless they are one; an event on every record of both."""
        a, b = self._known(one), self._known(other)
        if b in self.components[a]:
            return []
        members = self.components[a] | self.components[b]
        merge_id = MergeId(str(UUID(int=10_000_000 + len(self.entries))))
        edge = Edge(merge_id=merge_id, older=min(a, b), newer=max(a, b))
        live = [*self.edges[a], *self.edges[b], edge]
        for member in members:
            self.components[member], self.edges[member] = members, live
        root = min(members)
        plain = CustomersMerged(root=root, edges=(edge,), evidence=())
        whole = plain.model_copy(
            update={"component": tuple(sorted(members)), "live_edges": tuple(live)}
        )
        return self.append(
            *((record_stream(m), whole if m == root else plain) for m in sorted(members))
        )

    def undo(self, number: int, which: int) -> list[Entry]:
        """Take back one merge of a customer, if there is any; an event on every record of it."""
        record = self._known(number)
        live, members = self.edges[record], self.components[record]
        if not live:
            return []
        removed = live[which % len(live)]
        left = [edge for edge in live if edge != removed]
        parts = _components(members, left)
        facts: list[tuple[Stream, Event]] = []
        for part in parts:
            edges = [edge for edge in left if edge.older in part]
            plain = CustomersParted(customer=min(members), root=min(part), removed=(removed,))
            told = {"component": tuple(sorted(part)), "live_edges": tuple(edges)}
            whole = plain.model_copy(update={"roots": tuple(map(min, parts)), **told})
            for member in sorted(part):
                self.components[member], self.edges[member] = part, edges
                facts.append((record_stream(member), whole if member == min(part) else plain))
        return self.append(*facts)

    def unlink(self, number: int, key: IdentifierKey) -> list[Entry]:
        record = record_stream(self._known(number))
        return self.append((record, IdentifiersUnlinked(keys=(key,))))

    def prefer(
        self, number: int, channel: str, topic: str, *, frequency: str, happened: int | None = None
    ) -> list[Entry]:
        said = Preference(channel=channel, topic=topic, frequency=frequency)
        record = record_stream(self._known(number))
        return self.append((record, PreferencesSet(preferences=(said,))), happened=happened)

    def spoil(self, revision: int) -> None:
        """Make an event unreadable; its place stays."""
        spoilt = replace(self.entries[revision - 1], event=None, fault="body: spoilt")
        self.entries[revision - 1] = spoilt

    def _known(self, number: int) -> RecordId:
        record = record_id(number)
        self.components.setdefault(record, {record})
        self.edges.setdefault(record, [])
        return record

    def _store(
        self, stream: Stream, body: Event, *, happened: int | None, part: int, parts: int
    ) -> None:
        head = self._heads.get(stream, EMPTY)
        revision = len(self.entries) + 1
        recorded_at = START + timedelta(seconds=revision)
        event = Recorded(
            stream=stream,
            version=head.version + 1,
            revision=revision,
            event_id=EventId(str(UUID(int=0x7000 << 64 | revision))),
            happened_at=recorded_at if happened is None else START + timedelta(seconds=happened),
            recorded_at=recorded_at,
            command_id=CommandId(str(UUID(int=revision))),
            decision_id=DecisionId(str(UUID(int=revision - part + 1))),
            part=part,
            parts=parts,
            auth_id="test",
            body=body,
        )
        digest = sha256(head.digest + f"{revision} {stream} {body!r}".encode()).digest()
        ends_append = part == parts
        entry = Entry(event, stream, revision, event.version, head.digest, digest, ends_append)
        self.entries.append(entry)
        self._heads[stream] = entry.head


def _components(members: set[RecordId], edges: Sequence[Edge]) -> list[set[RecordId]]:
    found: list[set[RecordId]] = [{member} for member in members]
    for edge in edges:
        ends = [part for part in found if part & {edge.older, edge.newer}]
        found = [part for part in found if part not in ends] + [set[RecordId]().union(*ends)]
    return sorted(found, key=min)


def random_history(seed: int, *, events: int, records: int) -> History:
    """A long history of everything that can happen, the same for the same seed."""
    drawn = random.Random(seed)
    history = History()
    history.rules()
    while len(history.entries) < events:
        step(history, *(drawn.randrange(1_000_000) for _ in range(4)), records=records)
    return history


def step(history: History, kind: int, who: int, what: int, when: int, *, records: int) -> None:
    """Let one thing happen, chosen by four numbers."""
    number = who % records
    source = sorted(SOURCES)[what % len(SOURCES)]
    happened = when % 2_000
    match kind % 12:
        case 0:
            history.link(number, identifier(f"{number}-{what}"), source=source)
        case 1 | 2:
            traits: OpenMap = {f"trait{what % 4}": what % 7, f"trait{when % 4}": [when % 5]}
            history.traits(number, traits, source=source, happened=happened)
        case 3:
            history.merge(number, what % records)
        case 4 if what % 3 == 0:
            chosen = {purpose: bool(when >> n & 1) for n, purpose in enumerate(sorted(PURPOSES))}
            history.choose(number, happened=happened, **chosen)
        case 4:
            purpose = sorted(PURPOSES)[what % len(PURPOSES)]
            state = sorted(CONSENT_EVENTS)[when % len(CONSENT_EVENTS)]
            history.consent(number, purpose, state, happened=happened)
        case _:
            name = f"Signal {when % 5}"
            amounts: OpenMap = {"amount": (what % 1_000) / 100, "items": when % 9, "note": "x"}
            first = signal(f"m{what % (records * 4)}", name, amounts)
            second = signal(f"m{(what + when) % (records * 4)}", name, {"amount": 0.1})
            history.signals(number, first, second, source=source)


@dataclass
class ListedLog:
    """The log's reading side over entries that a test made, damaged ones included."""

    entries: Sequence[Entry]
    is_held_open: bool = False
    faults: Mapping[str, int] | None = None
    keys: None = None

    async def read(
        self,
        *,
        after_revision: int = 0,
        through_revision: int | None = None,
        batch_events_max: int = 1_000,
    ) -> AsyncIterator[list[Entry]]:
        entries = self.entries[:through_revision]
        for start in range(after_revision, len(entries), batch_events_max):
            yield list(entries[start : start + batch_events_max])

    async def follow(
        self, *, after_revision: int, batch_events_max: int = 1_000
    ) -> AsyncIterator[list[Entry]]:
        async for entries in self.read(
            after_revision=after_revision, batch_events_max=batch_events_max
        ):
            yield entries

    async def survey(self) -> AsyncIterator[list[Entry]]:
        yield list(self.entries)

    async def gaps(self) -> Sequence[tuple[int, int]]:
        return ()

    async def shape(self) -> Shape:
        last = len(self.entries)
        return Shape(
            min(1, last), last, **{"deleted": 0, "lost": 0, **(self.faults or {})}, server_time=None
        )

    async def load_many(
        self, streams: Mapping[Stream, Head], *, concurrency: int = 32
    ) -> dict[Stream, list[Entry]]:
        return {
            stream: [entry for entry in self.entries if entry.stream == stream]
            for stream in streams
        }


def batches(entries: Sequence[Entry], size: int) -> Iterable[list[Entry]]:
    """Cut entries into batches of whole appends."""
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if entry.ends_append and len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
