"""A customer: records joined by live edges, and what their events come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from domain.identity import Edge, Separation, root_of
from domain.ids import CommandId, RecordId
from domain.record import Fate, Record, RememberedCommand
from domain.signals import SignalKey


@dataclass(frozen=True, slots=True)
class Customer:
    """The records of one customer by id; its own id is the oldest one's."""

    records: Mapping[RecordId, Record]

    @property
    def root(self) -> RecordId:
        """The customer's id."""
        return root_of(self.records)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The live merges that hold it together."""
        return self.records[self.root].edges

    @property
    def separations(self) -> tuple[Separation, ...]:
        """The separations of its records, lifted ones included."""
        return self.records[self.root].separations

    @property
    def parted(self) -> Mapping[RecordId, datetime]:
        """The customers that parted from it not long ago, and when."""
        return {
            other: at
            for record in self.records.values()
            for other, at in record.parted.items()
            if other not in self.records
        }

    def __str__(self) -> str:
        return f"Customer<{self.root}>"


def remembered_command(
    customers: Iterable[Customer], command_id: CommandId
) -> tuple[Customer, RememberedCommand] | None:
    """Find a command that was carried out before, and the customer who remembers it."""
    found = [
        (customer, remembered)
        for customer in customers
        for record in customer.records.values()
        if (remembered := record.commands.get(command_id)) is not None
    ]
    return max(found, key=lambda place: place[1].revision, default=None)


def fate_of(records: Mapping[RecordId, Record], key: SignalKey) -> Fate | None:
    """Say what became of a message that came before."""
    for record in records.values():
        if key in record.messages:
            return record.messages[key]
    return None
