"""Given / when / then for the domain: what happened, what is asked, what changes or why not.

`given` takes events in the order of the log (`facts.py`); `after` carries a command out
(`asking.py`), as a host would; `when` only decides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from domain.commands import PersonCommand
from domain.customer import Customer
from domain.decide import decide
from domain.decision import Change, Decision
from domain.errors import DomainError
from domain.event import Event
from domain.identifier_histories import NO_HISTORIES, IdentifierHistories
from domain.identity import PastHolder, Tombstone
from domain.identity_events import (
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifierTombstoned,
)
from domain.ids import (
    CommandId,
    IdentifierKey,
    RecordId,
    Stream,
    StreamKind,
    made_at_milliseconds,
)
from domain.past_holders import Freed
from domain.record import Record, evolve, remembered, unborn
from domain.rules import Rules
from tests.domain.asking import identify
from tests.domain.facts import (
    LATE,
    RULES,
    Placed,
    at,
    linked,
    on,
    record_id,
    recorded,
    user,
)


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
    histories: IdentifierHistories = NO_HISTORIES

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
            known = self.histories
            kept = {key: r for key, r in known.tombstoned.items() if key != stream.key}
            if isinstance(body, IdentifierTombstoned):
                stone = Tombstone(RecordId(body.record_id), revision)
                kept[IdentifierKey(stream.key)] = stone
            freed = self._freed_by(IdentifierKey(stream.key), body, **said)
            readmitted = {**known.readmitted}
            if isinstance(body, IdentifierReadmitted):
                event = recorded(stream, body, revision=revision, **said)
                readmitted[event.command_id] = remembered(None, event)
            histories = IdentifierHistories(kept, freed, readmitted)
            return replace(self, revision=revision, histories=histories)
        if stream.kind is not StreamKind.RECORD:
            return replace(self, revision=revision)
        key = RecordId(stream.key)
        record = self.records.get(key) or unborn(key)
        event = recorded(stream, body, revision=revision, **said)
        return replace(
            self, records={**self.records, key: evolve(record, event)}, revision=revision
        )

    def _freed_by(
        self, key: IdentifierKey, body: Event, *, command_id: CommandId | None = None, **_: Any
    ) -> Freed:
        """Say who let go of identifiers: when, is when the command was made that took them."""
        if not isinstance(body, IdentifierReleased | IdentifierTombstoned):
            return self.histories.freed
        until = made_at_milliseconds(command_id) if command_id else 0
        left = PastHolder(key=key, record_id=body.record_id, until=until)
        freed = self.histories.freed
        return {**freed, key: (*freed.get(key, ()), left)}

    def when(self, command: PersonCommand) -> Outcome:
        """Decide a command."""
        try:
            decision = decide(
                self.rules, self.customers, command, now=at(LATE), histories=self.histories
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
        together = [*changes]
        for part, change in enumerate(together, start=1):
            scenario = scenario.happened(
                change.stream,
                change.body,
                happened_at=change.happened_at,
                command_id=command.command_id,
                part=part,
                parts=len(together),
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
