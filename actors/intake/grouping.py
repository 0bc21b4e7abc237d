"""Make commands of a round's items: few, large, and never out of order for one person. Pure.

Signals that came with the same identifiers and choices from one source become one command, unless
something that shares an identifier came between. Commands that share an identifier, or the key of
their messages, fall into different waves, in their order; those of one wave may go at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from actors.clock import Clock
from actors.intake.key_order import Key
from actors.intake.port import IntakeMessage
from actors.intake.segment_spec import ConsentCall, DecodedCall, IdentifyCall, SignalCall
from domain.commands import (
    SIGNALS_PER_COMMAND_MAX,
    Identify,
    PersonCommand,
    RecordConsent,
    RecordSignals,
)
from domain.ids import IDENTIFIERS_PER_CUSTOMER_MAX, CommandId, IdentifierKey

AUTH_ID = "intake"
COMMAND_DEADLINE_SECONDS = 30.0
COMMAND_BYTES_MAX = 393_216
"""Signals of one command, as JSON: its event has to fit into one message of NATS when sealed."""


@dataclass(slots=True)
class Ticket:
    """One item of a message on its way: where it came from, and what became of it."""

    message: IntakeMessage
    item: int
    source: str
    call: DecodedCall
    size_bytes: int
    order: Key | None = None

    @property
    def message_id(self) -> str:
        """The publisher's id of the item."""
        match self.call:
            case IdentifyCall(message_id=message_id) | ConsentCall(message_id=message_id):
                return message_id
            case SignalCall(signal=signal):
                return signal.message_id

    @property
    def keys(self) -> frozenset[IdentifierKey | Key]:
        """What it must not be overtaken by: its identifiers, and the key of its message."""
        named = frozenset(identifier.key for identifier in self.call.identifiers)
        return named | {self.order} if self.order else named


@dataclass(slots=True)
class Planned:
    """Tickets that become one command: one identify, or signals of one set of identifiers."""

    wave: int
    keys: frozenset[IdentifierKey | Key]
    tickets: list[Ticket] = field(default_factory=list)
    size_bytes: int = 0
    left_out: int = 0

    def command(self, clock: Clock, auth_id: str = AUTH_ID) -> PersonCommand:
        """Make the command, with new ids and a deadline from now."""
        return make_command(self.tickets, clock, auth_id)

    def takes(self, ticket: Ticket) -> bool:
        """Say whether one more signal may join."""
        first = self.tickets[0]
        return (
            isinstance(ticket.call, SignalCall)
            and isinstance(first.call, SignalCall)
            and first.source == ticket.source
            and self.keys == ticket.keys
            and first.call.choices == ticket.call.choices
            and len(self.tickets) < SIGNALS_PER_COMMAND_MAX
            and self.size_bytes + ticket.size_bytes <= COMMAND_BYTES_MAX
            and self.left_out + len(ticket.call.left_out) <= IDENTIFIERS_PER_CUSTOMER_MAX
        )

    def add(self, ticket: Ticket) -> None:
        """Let a ticket join."""
        self.tickets.append(ticket)
        self.size_bytes += ticket.size_bytes
        self.left_out += len(ticket.call.left_out)

    def halves(self) -> list[Planned]:
        """Part it into two commands, in order."""
        middle = len(self.tickets) // 2
        halves = [Planned(self.wave, self.keys), Planned(self.wave, self.keys)]
        for place, ticket in enumerate(self.tickets):
            halves[place >= middle].add(ticket)
        return halves


@dataclass(slots=True)
class _Plan:
    waves: list[list[Planned]] = field(default_factory=list)
    last: dict[IdentifierKey | Key, Planned] = field(default_factory=dict)

    def add(self, ticket: Ticket) -> None:
        keys = ticket.keys
        before = [self.last[key] for key in keys if key in self.last]
        if len(before) == len(keys) and before[0].takes(ticket):
            joined = before[0]
            # Every key's last command must be this one, or something would be overtaken.
            if all(planned is joined for planned in before):
                joined.add(ticket)
                return
        wave = 1 + max((planned.wave for planned in before), default=-1)
        planned = Planned(wave, keys)
        planned.add(ticket)
        if wave == len(self.waves):
            self.waves.append([])
        self.waves[wave].append(planned)
        self.last.update(dict.fromkeys(keys, planned))


def plan_waves(tickets: Iterable[Ticket]) -> list[list[Planned]]:
    """Group the items of a round into waves of commands."""
    plan = _Plan()
    for ticket in tickets:
        plan.add(ticket)
    return plan.waves


def make_command(tickets: list[Ticket], clock: Clock, auth_id: str = AUTH_ID) -> PersonCommand:
    """Make one command of tickets that belong together."""
    first = tickets[0]
    left_out = {item.key: item for t in tickets for item in t.call.left_out}
    asked: dict[str, Any] = {  # Any: what every command of a person has
        "command_id": CommandId(clock.new_id()),
        "auth_id": auth_id,
        "issued_at": clock.recorded_now(),
        "deadline": _deadline(clock.now()),
        "new_record_id": clock.new_id(),
        "identifiers": first.call.identifiers,
        "left_out": tuple(left_out.values()),
    }
    match first.call:
        case SignalCall() as call:
            signals = [t.call.signal for t in tickets if isinstance(t.call, SignalCall)]
            return RecordSignals(
                **asked,
                source=first.source,
                signals=tuple(signals),
                category_preferences=dict(call.choices),
            )
        case ConsentCall() as call:
            return RecordConsent(
                **asked,
                purpose=call.purpose,
                state=call.state,
                happened_at=call.happened_at,
                is_imported=True,
                **call.details,
            )
        case IdentifyCall() as call:
            return Identify(
                **asked,
                source=first.source,
                traits=call.traits,
                happened_at=call.happened_at,
                message_id=call.message_id,
                category_preferences=dict(call.choices),
                on_closed="decline",
            )


def _deadline(now: datetime) -> datetime:
    return now + timedelta(seconds=COMMAND_DEADLINE_SECONDS)
