"""Judge purposes for a customer as of a time: what is open, and whom the gate lets in (R9, R11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from domain.consent import NOTHING_SAID, ConsentAct, Standing, standing
from domain.customer import Customer
from domain.ids import RecordId
from domain.record import Record
from domain.rules import Purpose, Rules

_NOBODY_YET = RecordId("")
"""Stands for the record of somebody who is not known: a person without acts."""


class Gate(NamedTuple):
    """The rules, and the acts on each record of one customer, as of a time.

    `parts` are the gates of those who would become that customer, if there are several.
    """

    rules: Rules
    acts: Mapping[RecordId, tuple[ConsentAct, ...]]
    at: datetime
    parts: tuple[Gate, ...] = ()

    @property
    def each(self) -> tuple[Gate, ...]:
        """The gate of each customer, as they are now."""
        return self.parts or (self,)

    def standing(self, purpose: Purpose) -> Standing:
        """Judge a purpose."""
        if not any(self.acts.values()):
            return NOTHING_SAID[purpose.basis]
        return standing(
            purpose.name,
            purpose.basis,
            self.acts,
            at=self.at,
            ancestors=self.rules.ancestors(purpose.name),
        )

    def admits(self, source: str) -> bool:
        """Say whether at least one purpose of the source is open (R11)."""
        purposes = self.rules.purposes
        return any(
            name in purposes and self.standing(purposes[name]).is_open
            for name in self.rules.source(source).purposes
        )

    def after(self, acts: Iterable[ConsentAct]) -> Gate:
        """Judge as if these acts stood on every record too."""
        more = tuple(acts)
        if not more:
            return self
        held = self.acts or {_NOBODY_YET: ()}
        joined = {record: (*own, *more) for record, own in held.items()}
        return self._replace(acts=joined, parts=())


def joint_gate(rules: Rules, customers: Sequence[Customer], *, at: datetime) -> Gate:
    """Give the gate for the customer that these would be together; none: as `gate_of`."""
    records = {r.id: r for customer in customers for r in customer.records.values()}
    joint = gate_of(rules, records, at=at)
    if len(customers) < 2:  # noqa: PLR2004  # there is nothing to join
        return joint
    return joint._replace(parts=tuple(gate_of(rules, c.records, at=at) for c in customers))


def gate_of(rules: Rules, records: Mapping[RecordId, Record], *, at: datetime) -> Gate:
    """Give the gate for the customer that these records form; none: for a person without acts."""
    return Gate(rules, {record.id: record.acts for record in records.values()}, at)
