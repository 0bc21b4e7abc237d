"""What a merge or an undo comes to, by names: who joins or parts, and what changes by it.

Names only, no values: an answer to a command shows nothing that a purpose would have to allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from domain.customer import Customer
from domain.gate import gate_of
from domain.ids import RecordId
from domain.record import Record, TraitValue
from domain.replies import (
    ConsentConsequence,
    Consequences,
    CustomerAfter,
    HeldIdentifier,
    TraitConsequence,
)
from domain.rules import Rules

Winner = tuple[str, TraitValue]
"""A source, and what it said."""


def consequences_of_merge(
    rules: Rules, one: Customer, other: Customer, *, now: datetime
) -> Consequences:
    """Say what changes for two customers when they become one, as of a time."""
    whole = Customer({**one.records, **other.records})
    return Consequences(
        customers=(_described(whole),),
        traits=tuple(_trait_changes(rules, [(side, whole) for side in (one, other)])),
        consents=tuple(_consent_changes(rules, [(side, whole) for side in (one, other)], now=now)),
        declined_messages=_declined([whole]),
    )


def consequences_of_parting(
    rules: Rules, whole: Customer, sides: Sequence[Customer], *, now: datetime
) -> Consequences:
    """Say what changes for a customer who parts; `sides` are without acts that bind them no more.

    `closing_acts` are those that go on binding more than one side.
    """
    return Consequences(
        customers=tuple(map(_described, sides)),
        traits=tuple(_trait_changes(rules, [(whole, side) for side in sides])),
        consents=tuple(_consent_changes(rules, [(whole, side) for side in sides], now=now)),
        closing_acts=_closing_on_several(sides),
        declined_messages=_declined(sides),
    )


def winners(rules: Rules, records: Mapping[RecordId, Record]) -> dict[str, Winner]:
    """Give what stands of each trait: by the source's priority, then event time, then event id."""
    found: dict[str, Winner] = {}
    for record in records.values():
        for trait, by_source in record.traits.items():
            for source, said in by_source.items():
                rival = found.get(trait)
                if rival is None or _rank(rules, source, said) > _rank(rules, *rival):
                    found[trait] = (source, said)
    return found


def _rank(rules: Rules, source: str, said: TraitValue) -> tuple[object, ...]:
    known = rules.sources.get(source)
    return (-1 if known is None else known.priority, said.effective_at, said.event_id)


def _described(customer: Customer) -> CustomerAfter:
    return CustomerAfter(
        customer_id=customer.root,
        record_ids=tuple(sorted(customer.records)),
        identifiers=tuple(
            HeldIdentifier(key=key, namespace=item.namespace if item else "", record_id=record.id)
            for record in customer.records.values()
            for key, item in record.identifiers.items()
        ),
    )


def _trait_changes(
    rules: Rules, pairs: Iterable[tuple[Customer, Customer]]
) -> Iterator[TraitConsequence]:
    for before, after in pairs:
        old, new = winners(rules, before.records), winners(rules, after.records)
        side = min(before, after, key=lambda customer: len(customer.records))
        for trait in sorted(old.keys() | new.keys()):
            if old.get(trait) != new.get(trait):
                yield TraitConsequence(
                    customer_id=side.root,
                    trait=trait,
                    source_before=old[trait][0] if trait in old else None,
                    source_after=new[trait][0] if trait in new else None,
                )


def _consent_changes(
    rules: Rules, pairs: Iterable[tuple[Customer, Customer]], *, now: datetime
) -> Iterator[ConsentConsequence]:
    for before, after in pairs:
        side = min(before, after, key=lambda customer: len(customer.records))
        was, will_be = (gate_of(rules, c.records, at=now) for c in (before, after))
        for name, purpose in sorted(rules.purposes.items()):
            old, new = was.standing(purpose), will_be.standing(purpose)
            if (old.is_open, old.state) != (new.is_open, new.state):
                yield ConsentConsequence(
                    customer_id=side.root,
                    purpose=name,
                    open_before=old.is_open,
                    open_after=new.is_open,
                    state_before=old.state,
                    state_after=new.state,
                )


def _closing_on_several(sides: Sequence[Customer]) -> tuple[str, ...]:
    bound: dict[str, set[RecordId]] = {}
    for side in sides:
        for record in side.records.values():
            for act in record.acts:
                if act.is_closing:
                    bound.setdefault(act.act_id, set()).add(side.root)
    return tuple(sorted(act_id for act_id, roots in bound.items() if len(roots) > 1))


def _declined(customers: Iterable[Customer]) -> int:
    return sum(
        fate == "declined"
        for customer in customers
        for record in customer.records.values()
        for fate in record.messages.values()
    )
