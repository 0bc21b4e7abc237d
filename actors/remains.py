"""The events that a record is folded from, where some of them cannot be read.

Nothing is decided on such a record (R10) but one thing: its person can be erased. That takes only
who they are, which records and identifiers there are, and that is not sealed; and what came before
an erasure says nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    IdentifiersLinked,
    IdentifiersUnlinked,
)
from eventlog.port import Entry
from eventlog.registry import class_named

SAYS_WHO = (
    CustomersMerged,
    CustomersParted,
    ErasureRequested,
    IdentifiersLinked,
    IdentifiersUnlinked,
)
"""Events without which it is not known which records and identifiers somebody has."""


class Unreadable(Exception):
    """An event of the record cannot be read or breaks its chain: nothing is decided on it (R10)."""


def events_of(entries: Sequence[Entry], *, is_for_erasure: bool = False) -> list[Recorded[Event]]:
    """Give the events to fold. Raises `Unreadable`."""
    events = [entry.event for entry in entries if entry.event is not None]
    if len(events) == len(entries):
        return events
    erased = max((place for place, e in enumerate(entries) if _is_erasure(e)), default=-1)
    read: list[Recorded[Event]] = []
    for place, entry in enumerate(entries):
        event = entry.event
        if event is None and place > erased:
            if not is_for_erasure:
                raise Unreadable
            event = _rest_of(entry)
        if event is not None:
            read.append(event)
    return read


def _is_erasure(entry: Entry) -> bool:
    return entry.event is not None and isinstance(entry.event.body, ErasureRequested)


def _rest_of(entry: Entry) -> Recorded[Event] | None:
    """Give what is left of an event, or None where it cannot have said who somebody is.

    Whatever says that touches another subject too (R5, R7): a decision of one part does not, also
    where a release to come has made it. Raises `Unreadable`.
    """
    remains = entry.remains
    if remains is None:
        raise Unreadable
    if remains.event is not None:
        return remains.event
    known = class_named(remains.event_type)
    if known in SAYS_WHO or (known is None and remains.parts > 1):
        raise Unreadable
    return None
