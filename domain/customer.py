"""A customer: records joined by live edges, and what their events come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import and_

from domain.identity import Edge, Separation, root_of
from domain.ids import CommandId, IdentifierKey, RecordId, made_at_milliseconds
from domain.record import Fate, Record, RememberedCommand
from domain.signals import SignalKey


@dataclass(frozen=True, slots=True)
class Customer:
    """The records of one customer by id; its own id is the oldest one's."""

    records: Mapping[RecordId, Record]

    @classmethod
    def of(cls, root: RecordId, records: Mapping[RecordId, Record]) -> Customer:
        """Put together the customer of a root, of records among which are all of its own."""
        return cls({member: records[member] for member in records[root].component})

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

    @property
    def is_erased(self) -> bool:
        """Whether the person was erased, as a whole."""
        return any(record.erased_since for record in self.records.values())

    def holds(self, key: IdentifierKey) -> bool:
        """Say whether a record of it holds an identifier."""
        return any(key in record.identifiers for record in self.records.values())

    def __str__(self) -> str:
        return f"Customer<{self.root}>"


def for_memory(customer: Customer) -> Customer:
    """Give a customer who is asked for what it remembers alone: who holds what, others say."""
    records = {r: replace(record, identifiers={}) for r, record in customer.records.items()}
    return Customer(records)


def remembered_command(
    customers: Iterable[Customer], command_id: CommandId
) -> tuple[Customer, RememberedCommand] | None:
    """Find a command that was carried out before, and the customer who remembers it last."""
    found = [
        (customer, remembered)
        for customer in customers
        for record in customer.records.values()
        if (remembered := record.commands.get(command_id)) is not None
    ]
    if not found:
        return None
    customer, last = max(found, key=lambda place: place[1].revision)
    origins = reduce(and_, (remembered.origins for _, remembered in found))
    return customer, replace(last, origins=origins)


def forgotten_by(customers: Iterable[Customer], command_id: CommandId) -> dict[RecordId, int]:
    """Name the records that may have forgotten a command, and from which revision it may stand."""
    made_at = made_at_milliseconds(command_id)
    found: dict[RecordId, int] = {}
    for customer in customers:
        for record in customer.records.values():
            if not record.forgotten:
                continue
            spans = [some.revision for some in record.forgotten if made_at <= some.until]
            if spans and command_id not in record.commands:
                found[record.id] = min(spans)
    return found


def reminded(
    customers: Iterable[Customer],
    command_id: CommandId,
    found: Mapping[RecordId, RememberedCommand],
) -> tuple[Customer, ...]:
    """Give the customers with a command in their memory, as the log has it on their records."""
    return tuple(
        Customer(
            {
                record.id: replace(
                    record,
                    commands={**record.commands, command_id: found[record.id]},
                )
                if record.id in found
                else record
                for record in customer.records.values()
            }
        )
        for customer in customers
    )


def fate_of(records: Mapping[RecordId, Record], key: SignalKey) -> Fate | None:
    """Say what became of a message that came before."""
    for record in records.values():
        if key in record.messages:
            return record.messages[key]
    return None
