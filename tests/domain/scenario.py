"""Given / when / then for the domain: what happened, what is asked, what changes or why not.

Records are named by small numbers, times by minutes. `given` takes events in the order of the log;
`after` carries a command out, as a host would; `when` only decides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest

from domain.commands import (
    CheckConsent,
    EraseCustomer,
    Identify,
    LinkIdentifiers,
    MergeCustomers,
    PersonCommand,
    RecordConsent,
    RecordSignals,
    SetTraits,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import CONSENT_EVENTS, ConsentChanged
from domain.customer import Customer
from domain.decide import decide
from domain.decision import Change, Decision
from domain.errors import DomainError
from domain.event import Event, Recorded
from domain.identity import Edge, Identifier, LeftOut, LeftOutReason, Tombstone
from domain.identity_events import (
    CustomersMerged,
    CustomerTouched,
    IdentifierClaimed,
    IdentifiersLinked,
    IdentifierTombstoned,
)
from domain.identity_rules import DEFAULT_IDENTITY_RULES as DEFAULT
from domain.identity_rules import IdentityRules
from domain.ids import (
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    MergeId,
    RecordId,
    Stream,
    StreamKind,
    derived_id,
    identifier_stream,
    record_stream,
)
from domain.record import Record, evolve, unborn
from domain.rules import Rules, fold_rules
from domain.signals import Signal
from domain.workspace_events import IdentityRulesSet, PurposeDefined, SourceRegistered

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATE = 1_000
"""Minutes after which everything in these tests is over: events are recorded then or later."""


def at(minutes: float) -> datetime:
    """Name a time."""
    return NOON + timedelta(minutes=minutes)


def record_id(number: int) -> RecordId:
    """Name a record; a smaller number is older."""
    return RecordId(f"{number:08x}-0000-7000-8000-000000000000")


def command_id(number: int) -> CommandId:
    """Name a command."""
    return CommandId(f"{number:08x}-0000-7000-8000-00000000c0de")


def identifier(namespace: str, value: str) -> Identifier:
    """Make an identifier whose key can be read."""
    key = IdentifierKey(f"v1.{namespace}-{value}")
    return Identifier(namespace=namespace, value=value, key=key)


def user(value: str) -> Identifier:
    """Make an identifier of the strongest namespace."""
    return identifier("user_id", value)


def email(value: str) -> Identifier:
    """Make an identifier of a strong namespace."""
    return identifier("email", value)


def loyalty(value: str) -> Identifier:
    """Make an identifier of a weak namespace."""
    return identifier("loyalty_id", value)


def linked(*identifiers: Identifier, source: str | None = "shop") -> IdentifiersLinked:
    """Say that identifiers became known."""
    keys = tuple(item.key for item in identifiers)
    return IdentifiersLinked(source=source, keys=keys, identifiers=identifiers)


def edge(command: int, older: int, newer: int, *, place: int = 1) -> Edge:
    """Name the merge that a command makes of two records."""
    merge_id = MergeId(derived_id(command_id(command), f"merge:{place}"))
    return Edge(merge_id=merge_id, older=record_id(older), newer=record_id(newer))


def consent(command: int, state: str, purpose: str = "marketing", **said: Any) -> ConsentChanged:
    """Say that a command recorded an act."""
    event = CONSENT_EVENTS[ConsentState(state)]
    return event(act_id=command_id(command), purpose=purpose, **said)


def left_out(reason: str, *identifiers: Identifier) -> tuple[LeftOut, ...]:
    """Say that identifiers were not used."""
    return tuple(LeftOut(key=item.key, reason=LeftOutReason(reason)) for item in identifiers)


def touched(record: int) -> CustomerTouched:
    """Say that a record of the customer changed."""
    return CustomerTouched(record_id=record_id(record))


Placed = tuple[Stream, Event]


def on(record: int, body: Event) -> Placed:
    """Place an event on a record's stream."""
    return record_stream(record_id(record)), body


def claim(item: Identifier, record: int) -> Placed:
    """Place a claim on an identifier's stream."""
    return identifier_stream(item.key), IdentifierClaimed(record_id=record_id(record))


def recorded(stream: Stream, body: Event, *, revision: int, **said: Any) -> Recorded[Event]:
    """Put an event in a place in the log; by default it happened when it was recorded."""
    now = said.pop("recorded_at", at(LATE) + timedelta(microseconds=revision))
    fields: dict[str, Any] = {
        "version": revision,
        "event_id": EventId(str(uuid5(UUID(int=0), str(revision)))),
        "happened_at": now,
        "recorded_at": now,
        "command_id": command_id(0xFFFF0000 + revision),
        "decision_id": DecisionId(str(UUID(int=revision))),
        "part": 1,
        "parts": 1,
        "auth_id": "test",
    }
    return Recorded(stream=stream, revision=revision, body=body, **(fields | said))


WIDE = IdentityRules(
    namespaces=tuple(n.model_copy(update={"values_max": 512}) for n in DEFAULT.namespaces)
)
"""Rules under which only the limits of a customer count."""


def rules_of(purposes: Mapping[str, LawfulBasis], sources: Mapping[str, Iterable[str]]) -> Rules:
    """Make the rules of a workspace."""
    bodies: list[Event] = [PurposeDefined(purpose=p, basis=b) for p, b in purposes.items()]
    bodies += [SourceRegistered(source=s, purposes=tuple(p)) for s, p in sources.items()]
    bodies.append(IdentityRulesSet(rules=WIDE))
    places = enumerate(bodies, start=1)
    return fold_rules(Rules(), [recorded(WORKSPACE_STREAM, b, revision=r) for r, b in places])


RULES = rules_of(
    {
        "service": LawfulBasis.CONTRACT,
        "analytics": LawfulBasis.LEGITIMATE_INTEREST,
        "marketing": LawfulBasis.CONSENT,
    },
    {"shop": ["service", "marketing"], "ads": ["marketing"], "web": ["analytics", "marketing"]},
)


def _asked(number: int, said: dict[str, Any]) -> dict[str, Any]:
    record = said.pop("named", None)
    return {
        "command_id": command_id(number),
        "auth_id": "test",
        "issued_at": at(0),
        "deadline": at(9_999),
        "record_id": None if record is None else record_id(record),
        "new_record_id": record_id(said.pop("new", 99)),
        **said,
    }


def identify(number: int, *identifiers: Identifier, **said: Any) -> Identify:
    """Ask to identify."""
    defaults: dict[str, Any] = {"source": "shop", "happened_at": at(1)}
    return Identify(identifiers=identifiers, **(defaults | _asked(number, said)))


def set_traits(number: int, *identifiers: Identifier, **said: Any) -> SetTraits:
    """Ask to set traits."""
    defaults: dict[str, Any] = {"source": "shop", "happened_at": at(1), "traits": {"a": 1}}
    return SetTraits(identifiers=identifiers, **(defaults | _asked(number, said)))


def signal(message_id: str, minute: float = 1, **said: Any) -> Signal:
    """Make a signal."""
    return Signal(message_id=message_id, name="Order Completed", happened_at=at(minute), **said)


def signals(number: int, *identifiers: Identifier, **said: Any) -> RecordSignals:
    """Ask to record signals."""
    messages = said.pop("messages", ["m1"])
    defaults: dict[str, Any] = {
        "source": "shop",
        "signals": tuple(m if isinstance(m, Signal) else signal(m) for m in messages),
    }
    return RecordSignals(identifiers=identifiers, **(defaults | _asked(number, said)))


def act(number: int, state: str, *identifiers: Identifier, **said: Any) -> RecordConsent:
    """Ask to record consent."""
    defaults: dict[str, Any] = {
        "purpose": "marketing",
        "happened_at": at(1),
        "state": ConsentState(state),
    }
    return RecordConsent(identifiers=identifiers, **(defaults | _asked(number, said)))


def check(number: int, *identifiers: Identifier, **said: Any) -> CheckConsent:
    """Ask whether a purpose is open."""
    defaults: dict[str, Any] = {"purpose": "marketing"}
    return CheckConsent(identifiers=identifiers, **(defaults | _asked(number, said)))


def link(number: int, *identifiers: Identifier, **said: Any) -> LinkIdentifiers:
    """Ask to link identifiers to somebody known."""
    defaults: dict[str, Any] = {"source": "shop", "happened_at": at(1)}
    return LinkIdentifiers(identifiers=identifiers, **(defaults | _asked(number, said)))


def unlink(number: int, *identifiers: Identifier, **said: Any) -> UnlinkIdentifier:
    """Ask to take an identifier from whoever holds it."""
    return UnlinkIdentifier(identifiers=identifiers, **_asked(number, said))


def merge(number: int, one: int, other: int, **said: Any) -> MergeCustomers:
    """Ask to merge the customers of two records."""
    asked = _asked(number, {"named": one, **said})
    return MergeCustomers(other_record_id=record_id(other), **asked)


def erasing(number: int, *identifiers: Identifier, **said: Any) -> EraseCustomer:
    """Ask to erase somebody."""
    return EraseCustomer(identifiers=identifiers, **_asked(number, said))


def undo(number: int, merge_id: str, **said: Any) -> UndoMerge:
    """Ask to undo a merge."""
    return UndoMerge(merge_id=MergeId(merge_id), **_asked(number, said))


def unmerge(number: int, record: int, **said: Any) -> UnmergeRecord:
    """Ask to undo every merge of a record."""
    return UnmergeRecord(**_asked(number, {"named": record, **said}))


@dataclass(frozen=True)
class Outcome:
    """What a command came to: a decision, or an error."""

    decision: Decision | None
    error: DomainError | None

    def then(self, *expected: Placed) -> Decision:
        """Require exactly these events, in this order; give the decision."""
        assert self.error is None, self.error.reason
        assert self.decision is not None
        assert [(c.stream, c.body) for c in self.decision.changes] == list(expected)
        return self.decision

    def then_nothing(self) -> Decision:
        """Require that nothing changes; give the decision."""
        return self.then()

    def then_fails(self, reason: str) -> None:
        """Require an error with this reason."""
        assert self.error is not None, self.decision
        assert self.error.reason == reason


@dataclass(frozen=True)
class Scenario:
    """The records as they are after some events."""

    records: Mapping[RecordId, Record]
    revision: int
    rules: Rules = RULES
    tombstoned: Mapping[IdentifierKey, Tombstone] = field(default_factory=dict)

    def under(self, rules: Rules) -> Scenario:
        """Go on under other rules."""
        return replace(self, rules=rules)

    @property
    def customers(self) -> tuple[Customer, ...]:
        """Every customer."""
        roots = sorted({record.root for record in self.records.values()})
        return tuple(
            Customer({m: self.records[m] for m in self.records[root].component}) for root in roots
        )

    def record(self, number: int) -> Record:
        """Find a record."""
        return self.records[record_id(number)]

    def happened(self, stream: Stream, body: Event, **said: Any) -> Scenario:
        """Let one event happen."""
        revision = self.revision + 1
        if stream.kind is StreamKind.IDENTIFIER:
            kept = {key: r for key, r in self.tombstoned.items() if key != stream.key}
            if isinstance(body, IdentifierTombstoned):
                stone = Tombstone(RecordId(body.record_id), revision)
                kept[IdentifierKey(stream.key)] = stone
            return replace(self, revision=revision, tombstoned=kept)
        if stream.kind is not StreamKind.RECORD:
            return replace(self, revision=revision)
        key = RecordId(stream.key)
        record = self.records.get(key) or unborn(key)
        event = recorded(stream, body, revision=revision, **said)
        return replace(
            self, records={**self.records, key: evolve(record, event)}, revision=revision
        )

    def when(self, command: PersonCommand) -> Outcome:
        """Decide a command."""
        try:
            decision = decide(
                self.rules, self.customers, command, now=at(LATE), tombstoned=self.tombstoned
            )
            return Outcome(decision, None)
        except DomainError as error:
            return Outcome(None, error)

    def after(self, command: PersonCommand, **said: Any) -> Scenario:
        """Carry a command out; `recorded_at` says when, if it matters."""
        outcome = self.when(command)
        if outcome.error is not None:
            pytest.fail(f"the command failed: {outcome.error.reason}")
        assert outcome.decision is not None
        return self.stored(outcome.decision.changes, command, **said)

    def stored(self, changes: Iterable[Change], command: PersonCommand, **said: Any) -> Scenario:
        """Let the changes of a command happen."""
        scenario = self
        for change in changes:
            scenario = scenario.happened(
                change.stream,
                change.body,
                happened_at=change.happened_at,
                command_id=command.command_id,
                **said,
            )
        return scenario


def given(*happened: Placed) -> Scenario:
    """Start from events, in the order of the log."""
    scenario = Scenario({}, 0)
    for stream, body in happened:
        scenario = scenario.happened(stream, body)
    return scenario


def crowd(records: int, identifiers_each: int = 1) -> Scenario:
    """Make one customer of many records, by merges, ten to a command."""
    scenario = given()
    for number in range(1, records + 1):
        names = [user(f"{number}-{place}") for place in range(identifiers_each)]
        scenario = scenario.happened(*on(number, linked(*names)))
    root = user("1-0")
    for start in range(2, records + 1, 10):
        batch = [user(f"{n}-0") for n in range(start, min(start + 10, records + 1))]
        scenario = scenario.after(identify(100_000 + start, root, *batch))
    return scenario


def merged(command: int, root: int, edges: list[Edge], evidence: list[Identifier]) -> Any:
    """Say that customers merged, as it stands on a record that is not the root."""
    return CustomersMerged(
        root=record_id(root),
        edges=tuple(edges),
        evidence=tuple(item.key for item in evidence),
        rules_version=RULES.version,
    )


def merged_whole(
    command: int,
    members: list[int],
    edges: list[Edge],
    *,
    evidence: list[Identifier],
    live: list[Edge] | None = None,
) -> CustomersMerged:
    """Say that customers merged, as it stands on the root."""
    return CustomersMerged(
        root=record_id(members[0]),
        edges=tuple(edges),
        evidence=tuple(item.key for item in evidence),
        component=tuple(record_id(member) for member in members),
        live_edges=(*(live or []), *edges),
        rules_version=RULES.version,
    )
