"""The closed registry of wire names, and the only place where old bodies are brought up to date.

A wire name is `koseki.<subject>.<event>.v<n>`; it is written into every event and never changes. A
new schema gets a new name with the next number, its class takes the old one's place in `EVENTS`,
and `UPCASTERS` says how a body of the old name becomes one of the next. A body that was erased
comes without its personal fields: a step takes what is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from domain.consent_events import (
    ChoicesRecorded,
    ConsentExpired,
    ConsentGiven,
    ConsentInvalidated,
    ConsentRefused,
    ConsentRenewed,
    ConsentRequested,
    ConsentRevoked,
    ConsentTerminated,
    ConsentWithdrawn,
    VerdictRecorded,
)
from domain.erasure_events import CustomerErased, ErasureRequested
from domain.event import Event
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    CustomerTouched,
    IdentifierClaimed,
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifiersLinked,
    IdentifiersTakenOver,
    IdentifiersUnlinked,
    IdentifierTombstoned,
)
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, PreferencesSet
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.workspace_events import (
    ClockAdvanced,
    IdentityRulesSet,
    NoticePublished,
    PurposeDefined,
    SegmentActivated,
    SegmentArchived,
    SegmentDefined,
    SourceRegistered,
    TraitIndexDropped,
    TraitIndexed,
)

Fields = dict[str, Any]  # Any: the JSON values of a body whose schema is older than our classes


WIRE_NAME = re.compile(r"koseki\.[a-z-]{1,64}\.[a-z-]{1,64}\.v[0-9]{1,4}")
"""What may be shown of a name that is not ours; anything else may hold anything."""


class Upcast(NamedTuple):
    """One step: what the next name is, and how its fields are made from the older ones."""

    next_name: str
    convert: Callable[[Fields], Fields]


class UnknownEvent(ValueError):
    """A wire name or a class that the registry does not hold."""


EVENTS: Mapping[str, type[Event]] = {
    "koseki.record.identifiers-linked.v1": IdentifiersLinked,
    "koseki.record.identifiers-unlinked.v1": IdentifiersUnlinked,
    "koseki.record.identifiers-taken-over.v1": IdentifiersTakenOver,
    "koseki.record.traits-set.v1": TraitsSet,
    "koseki.record.signals-recorded.v1": SignalsRecorded,
    "koseki.record.signals-declined.v1": SignalsDeclined,
    "koseki.customer.merged.v1": CustomersMerged,
    "koseki.customer.parted.v1": CustomersParted,
    "koseki.customer.touched.v1": CustomerTouched,
    "koseki.customer.erasure-requested.v1": ErasureRequested,
    "koseki.customer.erased.v1": CustomerErased,
    "koseki.record.preferences-set.v1": PreferencesSet,
    "koseki.record.household-linked.v1": HouseholdLinked,
    "koseki.record.household-unlinked.v1": HouseholdUnlinked,
    "koseki.consent.requested.v1": ConsentRequested,
    "koseki.consent.given.v1": ConsentGiven,
    "koseki.consent.renewed.v1": ConsentRenewed,
    "koseki.consent.refused.v1": ConsentRefused,
    "koseki.consent.withdrawn.v1": ConsentWithdrawn,
    "koseki.consent.revoked.v1": ConsentRevoked,
    "koseki.consent.expired.v1": ConsentExpired,
    "koseki.consent.terminated.v1": ConsentTerminated,
    "koseki.consent.invalidated.v1": ConsentInvalidated,
    "koseki.consent.choices-recorded.v1": ChoicesRecorded,
    "koseki.consent.verdict-recorded.v1": VerdictRecorded,
    "koseki.identifier.claimed.v1": IdentifierClaimed,
    "koseki.identifier.released.v1": IdentifierReleased,
    "koseki.identifier.tombstoned.v1": IdentifierTombstoned,
    "koseki.identifier.readmitted.v1": IdentifierReadmitted,
    "koseki.workspace.purpose-defined.v1": PurposeDefined,
    "koseki.workspace.notice-published.v1": NoticePublished,
    "koseki.workspace.source-registered.v1": SourceRegistered,
    "koseki.workspace.segment-defined.v1": SegmentDefined,
    "koseki.workspace.segment-activated.v1": SegmentActivated,
    "koseki.workspace.segment-archived.v1": SegmentArchived,
    "koseki.workspace.trait-indexed.v1": TraitIndexed,
    "koseki.workspace.trait-index-dropped.v1": TraitIndexDropped,
    "koseki.workspace.identity-rules-set.v1": IdentityRulesSet,
    "koseki.clock.advanced.v1": ClockAdvanced,
}

UPCASTERS: Mapping[str, Upcast] = {}

_NAMES: Mapping[type[Event], str] = {cls: name for name, cls in EVENTS.items()}


def wire_name(event_class: type[Event]) -> str:
    """Give the name under which a class of event is stored."""
    name = _NAMES.get(event_class)
    if name is None:
        raise UnknownEvent(f"{event_class.__name__} has no wire name in the registry")
    return name


def class_named(name: str) -> type[Event] | None:
    """Give the class of the events under a wire name; None for a name that is not ours."""
    while step := UPCASTERS.get(name):
        name = step.next_name
    return EVENTS.get(name)


def upcast(
    name: str, fields: Fields, *, steps: Mapping[str, Upcast] = UPCASTERS
) -> tuple[type[Event], Fields]:
    """Bring stored fields to the newest schema; give its class and the fields that it takes."""
    while step := steps.get(name):
        name, fields = step.next_name, step.convert(fields)
    event_class = EVENTS.get(name)
    if event_class is None:
        shown = name if WIRE_NAME.fullmatch(name) else "this wire name"
        raise UnknownEvent(f"the registry does not hold {shown}")
    return event_class, fields
