"""What one turn works on: the records of the customers that meet in it, and what it will store.

Commands of a turn are decided one after another, each on what the ones before it left pending; the
turn goes out as one attempt, all or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from actors.awake import AwakeRecord
from actors.clock import Clock
from actors.drafting import drafts_of
from actors.messages import Routed
from actors.rounds import IdentifierStream
from domain.commands import Command, EraseCustomer
from domain.customer import Customer, for_memory
from domain.decision import Decision
from domain.event import Event, Recorded
from domain.identifier_histories import IdentifierHistories
from domain.identity import PastHolder, Tombstone
from domain.identity_events import (
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifierTombstoned,
)
from domain.ids import (
    REVISION_MAX,
    IdentifierKey,
    RecordId,
    Stream,
    StreamKind,
    made_at_milliseconds,
)
from domain.past_holders import holders_before, of_records
from domain.record import Record, evolve, remembered, unborn
from eventlog.port import EMPTY, Attempt, Draft, Head, Stored

PENDING_REVISION = REVISION_MAX + 1
"""Revisions of events not stored yet lie above every real one: only their order is used."""


class Staged(NamedTuple):
    """A decided command and how many events of the attempt are its own, up to and with which."""

    decision: Decision
    events: int
    last: int


class Scene:
    """Hold the pending state of a turn. `told` is what its commands were told of identifiers."""

    def __init__(
        self,
        awake: Iterable[AwakeRecord],
        *,
        told: Iterable[Mapping[IdentifierKey, IdentifierStream]],
        clock: Clock,
        now: datetime,
    ) -> None:
        self._stored = {item.record.id: item for item in awake}
        self._records = {r: item.record for r, item in self._stored.items()}
        self._holders: dict[IdentifierKey, RecordId] = {}  # by what is pending
        found = [item for streams in told for item in streams.items()]
        self._streams = dict(found)
        streams = self._streams.items()
        self._tombstoned = {key: stone for key, s in streams if (stone := s.tombstone) is not None}
        self._freed = {key: s.past_holders for key, s in streams if s.past_holders}
        self._readmitted = {c: known for _, s in found for c, known in s.readmitted.items()}
        self._histories = IdentifierHistories(self._tombstoned, self._freed, self._readmitted)
        self._drafts: list[Draft] = []
        self._touched: set[str] = set()
        self._applied = 0
        self._clock = clock
        self._now = now

    @property
    def events(self) -> int:
        """How many events the turn would store so far."""
        return len(self._drafts)

    def untouched(self, named: Iterable[RecordId]) -> Record | None:
        """Give the first record that is named, unless something of it is pending."""
        record_id = next(iter(named), None)
        if record_id is None or record_id in self._touched:
            return None
        return self._records.get(record_id)

    def customers(self, routed: Routed) -> tuple[Customer, ...]:
        """Give every customer that a command touches, with what is pending applied.

        Also who parted from them, or held the identifiers before, for what they remember: of these
        the copies may be old.
        """
        self._apply_pending()
        command = routed.command
        keys = [identifier.key for identifier in command.identifiers]
        named = {self._holders.get(key) or routed.owners.get(key) for key in keys}
        named.update(command.named_records)
        if isinstance(command, EraseCustomer):
            named.update(self._tombstoned[key].record_id for key in keys if key in self._tombstoned)
        met = [Customer.of(root, self._records) for root in self._roots(named)]
        known = of_records(record for customer in met for record in customer.records.values())
        before = {other for customer in met for other in customer.parted}
        before |= {RecordId(h.record_id) for h in holders_before(known, command, freed=self._freed)}
        if not before:
            return tuple(met)
        roots = {customer.root for customer in met}
        others = [root for root in self._roots(before) if root not in roots]
        return (*met, *(for_memory(Customer.of(root, self._records)) for root in others))

    @property
    def histories(self) -> IdentifierHistories:
        """What became of identifiers, with what is pending applied; good for one decision."""
        self._apply_pending()
        return self._histories

    def _roots(self, record_ids: Iterable[RecordId | None]) -> list[RecordId]:
        known = (self._records[r] for r in record_ids if r is not None and r in self._records)
        return sorted({record.root for record in known} & self._records.keys())

    def revision(self, customer_id: RecordId | None) -> int:
        """Give the newest stored revision of a record's customer; 0 for nobody."""
        known = self._records.get(customer_id) if customer_id else None
        if known is None or known.root not in self._records:
            return 0
        members = self._records[known.root].component
        stored = [self._stored[m].head.revision for m in members if m in self._stored]
        return max(stored, default=0)

    def stage(self, decision: Decision, command: Command) -> Staged:
        """Add what a decision stores."""
        self._drafts += drafts_of(decision.changes, command, clock=self._clock, now=self._now)
        self._touched.update(change.stream.key for change in decision.changes)
        return Staged(decision, len(decision.changes), len(self._drafts))

    def attempt(self) -> Attempt:
        """Give what is to be stored, with the heads that it was decided on."""
        streams = dict.fromkeys(draft.stream for draft in self._drafts)
        return Attempt(tuple(self._drafts), {s: self._head(s) for s in streams})

    def stored(self, outcome: Stored) -> list[AwakeRecord]:
        """Give every record of the scene as it is now that the attempt is in the log."""
        records = {r: item.record for r, item in self._stored.items()}
        for event in outcome.events:
            if event.stream.kind is StreamKind.RECORD:
                record_id = RecordId(event.stream.key)
                records[record_id] = evolve(records.get(record_id) or unborn(record_id), event)
        return [
            AwakeRecord(record, _new_head(outcome.heads, record_id, self._stored.get(record_id)))
            for record_id, record in records.items()
        ]

    def _head(self, stream: Stream) -> Head:
        if stream.kind is not StreamKind.RECORD:
            known_stream = self._streams.get(IdentifierKey(stream.key))
            return known_stream.head if known_stream else EMPTY
        known = self._stored.get(RecordId(stream.key))
        return known.head if known else EMPTY

    def _apply_pending(self) -> None:
        for place in range(self._applied, len(self._drafts)):
            event = _pending(self._drafts[place], place)
            if event.stream.kind is StreamKind.RECORD:
                self._apply(RecordId(event.stream.key), event)
            else:
                self._apply_to_identifier(IdentifierKey(event.stream.key), event)
        self._applied = len(self._drafts)

    def _apply(self, record_id: RecordId, event: Recorded[Event]) -> None:
        record: Record = self._records.get(record_id) or unborn(record_id)
        record = evolve(record, event)
        self._records[record_id] = record
        self._holders.update(dict.fromkeys(record.identifiers, record_id))

    def _apply_to_identifier(self, key: IdentifierKey, event: Recorded[Event]) -> None:
        match event.body:
            case IdentifierReleased(record_id=record_id):
                self._free(key, RecordId(record_id), event)
            case IdentifierTombstoned(record_id=record_id):
                self._free(key, RecordId(record_id), event)
                self._tombstoned[key] = Tombstone(RecordId(record_id), event.revision)
            case IdentifierReadmitted():
                self._tombstoned.pop(key, None)
                self._readmitted[event.command_id] = remembered(None, event)
            case _:
                pass

    def _free(self, key: IdentifierKey, record_id: RecordId, event: Recorded[Event]) -> None:
        """Let nobody hold an identifier, but remember who did."""
        self._holders.pop(key, None)
        until = made_at_milliseconds(event.event_id)
        record = self._records.get(record_id)
        earlier = [h for h in record.past_holders if h.key == key] if record else []
        left = PastHolder(key=key, record_id=record_id, until=until)
        self._freed[key] = (*earlier, left)


def _pending(draft: Draft, place: int) -> Recorded[Event]:
    return Recorded(
        stream=draft.stream,
        version=0,
        revision=PENDING_REVISION + place,
        event_id=draft.event_id,
        happened_at=draft.happened_at,
        recorded_at=draft.recorded_at,
        command_id=draft.command_id,
        decision_id=draft.decision_id,
        part=draft.part,
        parts=draft.parts,
        auth_id=draft.auth_id,
        body=draft.body,
    )


def _new_head(heads: Mapping[Stream, Head], record_id: RecordId, known: AwakeRecord | None) -> Head:
    stream = Stream(StreamKind.RECORD, record_id)
    return heads.get(stream) or (known.head if known else EMPTY)
