"""Who is who: identifiers held by records, records that became one customer, and that parted."""

from __future__ import annotations

from typing import Literal

from domain.event import Event, ShortText
from domain.identity import Edge, Identifier, LeftOut, PastHolder, Separation
from domain.ids import IdentifierKey, Name, UuidText


class IdentifiersLinked(Event):
    """Identifiers became known for a record; the first event of a record is one of these."""

    PERSONAL = {"identifiers": ()}

    source: Name | None
    keys: tuple[IdentifierKey, ...]
    identifiers: tuple[Identifier, ...]
    left_out: tuple[LeftOut, ...] = ()


class IdentifiersUnlinked(Event):
    """The record does not hold these identifiers any more; no merge is undone by it."""

    keys: tuple[IdentifierKey, ...]


class IdentifiersTakenOver(Event):
    """Identifiers that the record links were others' not long ago, whose memory of commands counts.

    Follows the link in its decision; without it nobody held them in the time that is remembered.
    """

    holders: tuple[PastHolder, ...]


class IdentifierClaimed(Event):
    """A record holds the identifier from here on."""

    record_id: UuidText


class IdentifierReleased(Event):
    """Nobody holds the identifier from here on; whoever comes with it next may claim it."""

    record_id: UuidText


class IdentifierTombstoned(Event):
    """Who held the identifier was erased: it is not used until it is readmitted."""

    record_id: UuidText


class IdentifierReadmitted(Event):
    """The identifier of somebody erased may be used again, as somebody decided."""

    OPEN = {"reference": "where the workspace keeps the evidence, such as a ticket's number"}

    reference: ShortText


class CustomersMerged(Event):
    """Records became one customer; stands on every record of it, whole on the root.

    `evidence` names the identifiers that met; an explicit merge has none.
    """

    root: UuidText
    edges: tuple[Edge, ...]
    evidence: tuple[IdentifierKey, ...]
    component: tuple[UuidText, ...] = ()
    live_edges: tuple[Edge, ...] = ()
    separations: tuple[Separation, ...] = ()
    reason: Literal["identifiers_met", "explicit"] = "identifiers_met"
    rules_version: int = 0


class CustomersParted(Event):
    """Merges were undone; stands on every record of the customer that was, whole on each new root.

    `customer` is the id that they had together. `foreign_acts` are acts of consent that do not bind
    this record any more: they were said to one that parted, and close nothing.
    """

    customer: UuidText
    root: UuidText
    removed: tuple[Edge, ...]
    foreign_acts: tuple[UuidText, ...] = ()
    roots: tuple[UuidText, ...] = ()
    component: tuple[UuidText, ...] = ()
    live_edges: tuple[Edge, ...] = ()
    separations: tuple[Separation, ...] = ()


class CustomerTouched(Event):
    """Something of consequence happened on another record of the customer.

    Stands on the root; where a change was to be made only if nobody had changed, on every record.
    """

    record_id: UuidText
