"""What the log holds of who is who, decision by decision: what came together, what came of it.

`identity.py` tries other rules on it. Of a signal that named nobody new only the record that it
went to is in the log; of an identifier that was left out only its key, and its value where somebody
holds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity import Edge, Identifier, LeftOut, LeftOutReason, Tombstone
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    IdentifierReadmitted,
    IdentifiersLinked,
    IdentifiersUnlinked,
    IdentifierTombstoned,
)
from domain.ids import CommandId, IdentifierKey, OpenMap, RecordId, StreamKind
from domain.signal_events import SignalsRecorded, TraitsSet
from eventlog.port import Entry


@dataclass(slots=True)
class Deciding:
    """One decision about identity, as its events tell it.

    `address` is the record that it went to, if that is told, `named` one that met others without an
    identifier of its own. `came` are the keys of all identifiers that are known to have come along,
    `linked` those of them that nobody held, and `left_out` those that were not used; `traits` are
    those that composites are made of.
    """

    command_id: CommandId
    revision: int
    at: datetime
    address: RecordId | None = None
    named: RecordId | None = None
    linked: tuple[IdentifierKey, ...] = ()
    came: dict[IdentifierKey, None] = field(default_factory=dict)
    left_out: set[IdentifierKey] = field(default_factory=set)
    traits: OpenMap = field(default_factory=dict)
    joined: tuple[Edge, ...] = ()
    is_explicit: bool = False
    removed: tuple[Edge, ...] = ()
    released: tuple[IdentifierKey, ...] = ()
    tombstoned: dict[IdentifierKey, Tombstone] = field(default_factory=dict)
    readmitted: list[IdentifierKey] = field(default_factory=list)

    @property
    def home(self) -> RecordId | None:
        """The record that what came is of, or one of its customer."""
        if self.address is None and self.joined:
            return RecordId(self.joined[0].older)
        return self.address

    @property
    def says_something(self) -> bool:
        """Whether other rules could come to something else by it."""
        return bool(
            self.came
            or self.traits
            or self.joined
            or self.removed
            or self.released
            or self.tombstoned
            or self.readmitted
        )


@dataclass(slots=True)
class Evidence:
    """The decisions in the log's order, the values that are known, and who is whom by now.

    `holders` says who holds each identifier that was ever held, None where nobody does any more;
    `left_out` says of identifiers that were not used why; `parts` names the traits to keep; the
    persons of `erased` records are erased.
    """

    parts: frozenset[str] = frozenset()
    decisions: list[Deciding] = field(default_factory=list)
    values: dict[IdentifierKey, Identifier] = field(default_factory=dict)
    roots: dict[RecordId, RecordId] = field(default_factory=dict)
    holders: dict[IdentifierKey, RecordId | None] = field(default_factory=dict)
    left_out: dict[IdentifierKey, LeftOutReason] = field(default_factory=dict)
    erased: set[RecordId] = field(default_factory=set)
    revision: int = 0

    def take(self, event: Recorded[Event]) -> None:
        """Take the next event of the log."""
        self.revision = event.revision
        if event.part == 1 or not self.decisions:
            if self.decisions and not self.decisions[-1].says_something:
                self.decisions.pop()
            self.decisions.append(Deciding(event.command_id, event.revision, event.happened_at))
        deciding = self.decisions[-1]
        if event.stream.kind is StreamKind.IDENTIFIER:
            self._take_identifier(deciding, event)
        elif isinstance(event.body, ErasureRequested):
            self.erased.add(RecordId(event.stream.key))
        elif event.stream.kind is StreamKind.RECORD:
            self._take_record(deciding, RecordId(event.stream.key), event.body)

    def _take_identifier(self, deciding: Deciding, event: Recorded[Event]) -> None:
        key = IdentifierKey(event.stream.key)
        match event.body:
            case IdentifierTombstoned(record_id=record_id):
                deciding.tombstoned[key] = Tombstone(RecordId(record_id), event.revision)
            case IdentifierReadmitted():
                deciding.readmitted.append(key)
                self.holders[key] = None
            case _:
                pass

    def _take_record(self, deciding: Deciding, record_id: RecordId, body: Event) -> None:
        self.roots.setdefault(record_id, record_id)
        match body:
            case IdentifiersLinked(keys=keys, identifiers=identifiers, left_out=left_out):
                deciding.address, deciding.linked = record_id, keys
                deciding.came |= dict.fromkeys(keys)
                self.values |= {item.key: item for item in identifiers}
                self.holders |= dict.fromkeys(keys, record_id)
                self._leave_out(deciding, left_out)
            case IdentifiersUnlinked(keys=keys):
                deciding.released = keys
                self.holders |= dict.fromkeys(keys)
            case TraitsSet(traits=traits, left_out=left_out):
                deciding.address = record_id
                # As intake does: only of what a publisher's call brings are composites made.
                if body.message_id is not None and self.parts:
                    deciding.traits = {n: v for n, v in traits.items() if n in self.parts}
                self._leave_out(deciding, left_out)
            case SignalsRecorded(left_out=left_out):
                deciding.address = record_id
                self._leave_out(deciding, left_out)
            case CustomersMerged():
                self._take_merge(deciding, body)
            case CustomersParted():
                deciding.removed = body.removed
                self.roots |= dict.fromkeys(map(RecordId, body.component), RecordId(body.root))
            case _:
                pass

    def _take_merge(self, deciding: Deciding, body: CustomersMerged) -> None:
        deciding.joined = body.edges
        deciding.is_explicit = body.reason == "explicit"
        deciding.came |= dict.fromkeys(body.evidence)
        if not deciding.is_explicit:
            before = [key for key in body.evidence if key not in deciding.linked]
            holders = {self.holders.get(key) for key in before}
            ends = [RecordId(end) for edge in body.edges for end in (edge.older, edge.newer)]
            deciding.named = next((end for end in ends if end not in holders), None)
        self.roots |= dict.fromkeys(map(RecordId, body.component), RecordId(body.root))

    def _leave_out(self, deciding: Deciding, left_out: Iterable[LeftOut]) -> None:
        for item in left_out:
            deciding.came[item.key] = None
            deciding.left_out.add(item.key)
            self.left_out[item.key] = item.reason


async def gather(batches: AsyncIterable[list[Entry]], *, parts: frozenset[str]) -> Evidence:
    """Gather the evidence of a log. An event that cannot be read says nothing here."""
    evidence = Evidence(parts)
    async for entries in batches:
        for entry in entries:
            if entry.event is not None:
                evidence.take(entry.event)
    return evidence
