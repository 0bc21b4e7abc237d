"""What commands come to, told slowly: one after another, in the order in which the log took them.

Knows identifiers, messages and acts only. Which identifiers are one person, which messages were
theirs, and what is open by R9; compared with what hosts answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from domain.commands import PersonCommand, RecordConsent, RecordSignals
from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from tests.domain.r9 import Joined, Said, is_open, path


@dataclass
class Oracle:
    """People as sets of identifiers; identifiers are numbered as they come."""

    numbers: dict[str, int] = field(default_factory=dict)
    edges: list[Joined] = field(default_factory=list)
    acts: list[Said] = field(default_factory=list)
    messages: dict[int, set[str]] = field(default_factory=dict)
    step: int = 0

    def take(self, command: PersonCommand) -> None:
        """Carry out one command: join whom it names, then note what it says."""
        names = [self._number(item.value) for item in command.identifiers]
        for other in names[1:]:
            self.step += 1
            if path(names[0], other, self.edges) is None:
                self.edges.append(Joined(names[0], other, self.step))
        self.step += 1
        if isinstance(command, RecordConsent):
            minute = int(command.happened_at.timestamp())
            self.acts.append(Said(names[0], str(command.state), minute, self.step))
        if isinstance(command, RecordSignals):
            known = self.messages.setdefault(names[0], set())
            known.update(signal.message_id for signal in command.signals)

    def people(self) -> set[frozenset[str]]:
        """Give the identifiers of each person."""
        return {frozenset(self.same_as(value)) for value in self.numbers}

    def same_as(self, value: str) -> set[str]:
        """Name every identifier of the person who has this one."""
        number = self.numbers[value]
        return {v for v, n in self.numbers.items() if path(number, n, self.edges) is not None}

    def messages_of(self, values: Iterable[str]) -> set[str]:
        """Give the messages of a person."""
        found = (self.messages.get(self.numbers[value], set()) for value in values)
        return set().union(*found)

    def is_open(self, values: Iterable[str]) -> bool:
        """Say whether a purpose that needs consent is open for a person."""
        numbers = {self.numbers[value] for value in values}
        acts = [act for act in self.acts if act.record in numbers]
        return is_open(LawfulBasis.CONSENT, acts, self.edges)

    def _number(self, value: str) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


def tell(commands: Sequence[PersonCommand], events: Sequence[Recorded[Event]]) -> Oracle:
    """Tell what came of commands, in the order of their first event in the log."""
    by_id = {command.command_id: command for command in commands}
    order = dict.fromkeys(event.command_id for event in events if event.command_id in by_id)
    oracle = Oracle()
    for command_id in order:
        oracle.take(by_id[command_id])
    return oracle
