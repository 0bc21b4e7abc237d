"""Who is who: identifiers held by records, and records that became one customer."""

from __future__ import annotations

from domain.event import Event
from domain.identity import Edge, Identifier
from domain.ids import IdentifierKey, Name, UuidText


class IdentifiersLinked(Event):
    """Identifiers became known for a record; the first event of a record is one of these."""

    PERSONAL = {"identifiers": ()}

    source: Name | None
    keys: tuple[IdentifierKey, ...]
    identifiers: tuple[Identifier, ...]


class IdentifierClaimed(Event):
    """A record holds the identifier from here on."""

    record_id: UuidText


class CustomersMerged(Event):
    """Records became one customer; stands on every record of it, whole on the root."""

    root: UuidText
    edges: tuple[Edge, ...]
    evidence: tuple[IdentifierKey, ...]
    component: tuple[UuidText, ...] = ()
    live_edges: tuple[Edge, ...] = ()


class CustomerTouched(Event):
    """Something of consequence happened on another record of the customer; stands on the root."""

    record_id: UuidText
