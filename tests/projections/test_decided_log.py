"""From decisions of the domain, through the encoded log, to rows, views and their proof."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from domain.commands import (
    Identify,
    MergeCustomers,
    PersonCommand,
    RecordConsent,
    RecordSignals,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent import ConsentState
from domain.customer import Customer
from domain.decide import decide
from domain.errors import DomainError
from domain.event import Event
from domain.gate import gate_of
from domain.identifier_histories import IdentifierHistories
from domain.identity import PastHolder
from domain.identity_events import IdentifierReleased
from domain.ids import (
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    RecordId,
    Stream,
    StreamKind,
    derived_id,
    made_at_milliseconds,
)
from domain.record import Record, evolve, unborn
from domain.rules import Rules, evolve_rules
from domain.workspace_events import PurposeDefined, SourceRegistered
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Attempt, Draft, Entry, Head, Stored
from projections.clock import read_clock
from projections.consent_history import consent_history
from projections.counts import read_counts
from projections.runner import Projector
from projections.store import Store
from projections.views import customer_view
from replay.as_of import Prefix
from replay.customer import fold_customers
from replay.signals import count_signals
from replay.verify import verify
from tests.projections.histories import PURPOSES, SERVED, START, identifier, record_id, signal

COMMANDS = 400
SELDOM = [ConsentState.REVOKED, ConsentState.EXPIRED, ConsentState.REQUESTED]
PEOPLE = 12


class EndedLog(MemoryEventLog):
    """Ends where a log would wait for more, so that a projector's run ends."""

    async def follow(
        self, *, after_revision: int, batch_events_max: int = 1_000
    ) -> AsyncIterator[list[Entry]]:
        reading = self.read(after_revision=after_revision, batch_events_max=batch_events_max)
        async for entries in reading:
            yield entries


class Writer:
    """Decides commands one after another and appends them, holding every record in memory."""

    def __init__(self, log: MemoryEventLog) -> None:
        self.log = log
        self.rules = Rules()
        self.records: dict[RecordId, Record] = {}
        self.freed: dict[IdentifierKey, tuple[PastHolder, ...]] = {}
        self._heads: dict[Stream, Head] = {}
        self._commands = 0

    @property
    def now(self) -> datetime:
        """The time of the log."""
        return START + timedelta(seconds=self._commands)

    async def set_rules(self) -> None:
        for name, basis in PURPOSES.items():
            await self.store([(WORKSPACE_STREAM, PurposeDefined(purpose=name, basis=basis))])
        for name, purposes in SERVED.items():
            body = SourceRegistered(source=name, purposes=purposes)
            await self.store([(WORKSPACE_STREAM, body)])

    async def carry_out(self, command: PersonCommand) -> None:
        keys = {item.key for item in command.identifiers}
        named = {*command.named_records}
        roots = {
            r.root for r in self.records.values() if keys & r.identifiers.keys() or r.id in named
        }
        customers = tuple(
            Customer({i: r for i, r in self.records.items() if r.root == root}) for root in roots
        )
        try:
            histories = IdentifierHistories(freed=self.freed)
            decision = decide(self.rules, customers, command, now=self.now, histories=histories)
        except DomainError:
            return
        if decision.changes:
            await self.store([(change.stream, change.body) for change in decision.changes])

    async def store(self, facts: list[tuple[Stream, Event]]) -> None:
        self._commands += 1
        command_id = command_number(self._commands)
        at = self.now
        drafts = tuple(
            Draft(
                stream=stream,
                event_id=EventId(derived_id(command_id, f"event:{part}")),
                body=body,
                happened_at=at,
                recorded_at=at,
                command_id=command_id,
                correlation_id="",
                decision_id=DecisionId(command_id),
                part=part,
                parts=len(facts),
                auth_id="test",
            )
            for part, (stream, body) in enumerate(facts, start=1)
        )
        expected = {stream: self._heads.get(stream, EMPTY) for stream, _ in facts}
        outcome = await self.log.append(Attempt(drafts, expected), timeout_seconds=5.0)
        assert isinstance(outcome, Stored)
        self._heads.update(outcome.heads)
        for event in outcome.events:
            if event.stream.kind is StreamKind.RECORD:
                known = RecordId(event.stream.key)
                self.records[known] = evolve(self.records.get(known) or unborn(known), event)
            elif isinstance(event.body, IdentifierReleased):
                key, until = IdentifierKey(event.stream.key), made_at_milliseconds(command_id)
                left = PastHolder(key=key, record_id=event.body.record_id, until=until)
                self.freed[key] = (*self.freed.get(key, ()), left)
            elif event.stream == WORKSPACE_STREAM:
                self.rules = evolve_rules(self.rules, event)


def command_number(number: int) -> CommandId:
    return CommandId(str(UUID(int=0x0190_0000_0000_7000_9000 << 48 | number)))


def random_command(drawn: random.Random, number: int) -> PersonCommand:
    values = drawn.sample(range(PEOPLE), drawn.choice([1, 1, 1, 2]))
    envelope = {
        "command_id": command_number(1_000_000 + number),
        "auth_id": "test",
        "issued_at": START,
        "deadline": START,
        "new_record_id": record_id(number),
        "identifiers": tuple(identifier(f"{value}@example.com") for value in values),
    }
    source = drawn.choice(sorted(SERVED))
    match drawn.randrange(4):
        case 0:
            traits = {"plan": drawn.randrange(5)}
            return Identify(**envelope, source=source, traits=traits, happened_at=START)
        case 1:
            purpose = drawn.choice(sorted(PURPOSES))
            return RecordConsent(**envelope, purpose=purpose, **random_act(drawn))
        case _:
            sent = signal(f"m{drawn.randrange(COMMANDS)}", properties={"amount": 0.1})
            return RecordSignals(**envelope, source=source, signals=(sent,))


def random_act(drawn: random.Random) -> dict[str, Any]:
    state = drawn.choice([ConsentState.GIVEN, ConsentState.GIVEN, ConsentState.WITHDRAWN, *SELDOM])
    said = {"state": state, "happened_at": START, "is_imported": drawn.random() < 0.3}
    if state is ConsentState.GIVEN and drawn.random() < 0.5:
        said["valid_until"] = START + timedelta(seconds=drawn.randrange(1, COMMANDS))
    return said


def random_change_of_identity(drawn: random.Random, number: int, writer: Writer) -> PersonCommand:
    records = sorted(writer.records)
    envelope = {
        "command_id": command_number(2_000_000 + number),
        "auth_id": "test",
        "issued_at": START,
        "deadline": START,
        "new_record_id": record_id(number),
    }
    edges = [edge for record in writer.records.values() for edge in record.edges]
    match drawn.randrange(4):
        case 0 if edges:
            edge = drawn.choice(edges)
            named = {"record_id": edge.newer, "merge_id": edge.merge_id}
            return UndoMerge(**envelope, **named)
        case 1:
            item = identifier(f"{drawn.randrange(PEOPLE)}@example.com")
            return UnlinkIdentifier(**envelope, identifiers=(item,))
        case 2:
            one, other = drawn.choice(records), drawn.choice(records)
            return MergeCustomers(**envelope, record_id=one, other_record_id=other)
        case _:
            return UnmergeRecord(**envelope, record_id=drawn.choice(records))


async def test_decisions_reach_the_read_side_and_are_proved(tmp_path: Path) -> None:
    writer = Writer(EndedLog("test"))
    await writer.set_rules()
    drawn = random.Random(20)
    store = Store.open_writer(tmp_path)
    for number in range(1, COMMANDS + 1):
        await writer.carry_out(random_command(drawn, number))
        if number % 7 == 0:
            await writer.carry_out(random_change_of_identity(drawn, number, writer))
        if number % 100 == 0:
            await Projector(writer.log, store).run()
    census = await count_signals(writer.log)
    with store.snapshot() as snapshot:
        assert (await verify(writer.log, snapshot)).holds
        counted = 0
        now = Prefix(snapshot.checkpoint.revision, read_clock(snapshot))
        for record in writer.records.values():
            seen = customer_view(snapshot, record.id, "audit")
            past = await fold_customers(writer.log, now, record_ids=[record.id])
            alone = past.view(record.id, "audit")
            assert seen is not None
            assert alone is not None
            assert seen.customer_id == record.root
            assert (seen.tallies, seen.traits) == (alone.tallies, alone.traits)
            assert (seen.identifiers, seen.consents) == (alone.identifiers, alone.consents)
            members = {m: writer.records[m] for m in seen.members}
            gate = gate_of(writer.rules, members, at=read_clock(snapshot))
            for place in seen.consents:
                assert place.standing == gate.standing(place.purpose)
            told = {act.act_id for act in consent_history(snapshot, seen.members)}
            assert told == {act.act_id for member in members.values() for act in member.acts}
            assert {known.key for known in seen.identifiers} == {
                key for member in seen.members for key in writer.records[member].identifiers
            }
            assert set(seen.members) == {
                r.id for r in writer.records.values() if r.root == record.root
            }
            if record.id == record.root:
                counted += sum(tally.count for tally in seen.tallies)
        assert counted >= census.distinct > 0
        counts = read_counts(snapshot)
        assert counts.customers == len({record.root for record in writer.records.values()})
    assert any(record.root != record.id for record in writer.records.values())
    assert any(record.parted for record in writer.records.values())
    assert any(record.past_holders for record in writer.records.values())
    store.close()


async def test_a_damaged_body_in_the_log_is_noticed_by_the_proof(tmp_path: Path) -> None:
    writer = Writer(EndedLog("test"))
    await writer.set_rules()
    drawn = random.Random(3)
    for number in range(1, 30):
        await writer.carry_out(random_command(drawn, number))
    store = Store.open_writer(tmp_path)
    await Projector(writer.log, store).run()
    writer.log.damage_body(store.checkpoint.revision - 5, b"{}")
    with store.snapshot() as snapshot:
        found = await verify(writer.log, snapshot)
    assert not found.holds
    store.close()
