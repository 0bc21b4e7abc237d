"""What arrives of a made-up population, as the commands that intake and the edge would make of it.

Tests and measurements play a population through hosts with it. It remembers which messages went
with which command, so that what the log took can be told again to an independent computation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from actors.clock import Clock
from actors.intake.grouping import Ticket, plan_waves
from actors.intake.identifiers import IdentifierNormaliser
from actors.intake.port import IntakeMessage
from actors.intake.segment_spec import Surroundings, decode_call
from domain.commands import EraseCustomer, PersonCommand, RecordConsent
from domain.consent import ConsentState
from domain.event import Event, Recorded
from domain.ids import CommandId
from examples.population.agreement import named
from examples.population.closure import Closure
from examples.population.delivery import Delivery

DEADLINE_SECONDS = 60.0
AUTH_ID = "population"
Wave = list[PersonCommand]


@dataclass
class Play:
    """Commands made of deliveries, and the deliveries of each."""

    normaliser: IdentifierNormaliser
    clock: Clock
    played: dict[str, tuple[PersonCommand, list[Delivery]]] = field(default_factory=dict)

    def waves(self, deliveries: Sequence[Delivery]) -> Iterator[Wave]:
        """Make commands, in waves that may go at once: calls as intake does, then what was said."""
        tickets = [
            self._ticket(place, delivery)
            for place, delivery in enumerate(deliveries)
            if delivery.kind == "call"
        ]
        for wave in plan_waves(tickets):
            commands: Wave = []
            for planned in wave:
                command = planned.command(self.clock).model_copy(
                    update={"deadline": self._deadline()}
                )
                told = [deliveries[ticket.item] for ticket in planned.tickets]
                self.played[command.command_id] = (command, told)
                commands.append(command)
            yield commands
        for acts in _in_turns([d for d in deliveries if d.kind != "call"]):
            commands = [self._act(delivery) for delivery in acts]
            for command, delivery in zip(commands, acts, strict=True):
                self.played[command.command_id] = (command, [delivery])
            yield commands

    def retell(self, events: Iterable[Recorded[Event]], closure: Closure) -> None:
        """Tell a closure what the log took, in the log's order."""
        order = dict.fromkeys(e.command_id for e in events if e.command_id in self.played)
        for command_id in order:
            command, deliveries = self.played[command_id]
            for delivery in deliveries:
                record = command.new_record_id
                closure.take(delivery.message_id, named(delivery), record=record)

    def _ticket(self, place: int, delivery: Delivery) -> Ticket:
        around = Surroundings(delivery.message_id, "track", delivery.happened_at)
        call = decode_call(delivery.call(), around, normaliser=self.normaliser)
        message = IntakeMessage(
            subject=delivery.source,
            headers={},
            data=b"",
            sequence=place,
            deliveries=1,
            received_at=delivery.delivered_at,
            token=str(place),
        )
        return Ticket(message, place, delivery.source, call, size_bytes=0)

    def _act(self, delivery: Delivery) -> PersonCommand:
        match delivery.kind:
            case "consent":
                return self._consent(delivery)
            case "erase":
                return self._erase(delivery)
            case kind:
                raise ValueError(f"no command is made of {kind}: play with none of them")

    def _erase(self, delivery: Delivery) -> EraseCustomer:
        return EraseCustomer(
            command_id=CommandId(self.clock.new_id()),
            auth_id=AUTH_ID,
            issued_at=self.clock.recorded_now(),
            deadline=self._deadline(),
            new_record_id=self.clock.new_id(),
            identifiers=(self.normaliser.normalise("user_id", delivery.body["user_id"]),),
        )

    def _consent(self, delivery: Delivery) -> RecordConsent:
        return RecordConsent(
            command_id=CommandId(self.clock.new_id()),
            auth_id=AUTH_ID,
            issued_at=self.clock.recorded_now(),
            deadline=self._deadline(),
            new_record_id=self.clock.new_id(),
            identifiers=(self.normaliser.normalise("user_id", delivery.body["user_id"]),),
            purpose=delivery.body["purpose"],
            state=ConsentState(delivery.body["state"]),
            happened_at=delivery.happened_at,
        )

    def _deadline(self) -> datetime:
        return self.clock.now() + timedelta(seconds=DEADLINE_SECONDS)


def _in_turns(acts: Sequence[Delivery]) -> list[list[Delivery]]:
    """Put acts into waves, of each account one a wave."""
    waves: list[list[Delivery]] = []
    said: Counter[str] = Counter()
    for act in acts:
        place = said[act.body["user_id"]]
        said[act.body["user_id"]] += 1
        if place == len(waves):
            waves.append([])
        waves[place].append(act)
    return waves
