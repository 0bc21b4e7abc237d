"""What happens in tests of the domain, and under which rules: events and where they stand.

Records are named by small numbers, times by minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import CONSENT_EVENTS, ConsentChanged
from domain.event import Event, Recorded
from domain.identity import Edge, Identifier, LeftOut, LeftOutReason
from domain.identity_events import (
    CustomersMerged,
    CustomerTouched,
    IdentifierClaimed,
    IdentifiersLinked,
)
from domain.identity_rules import DEFAULT_IDENTITY_RULES as DEFAULT
from domain.identity_rules import IdentityRules
from domain.ids import (
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    MergeId,
    RecordId,
    Stream,
    derived_id,
    identifier_stream,
    record_stream,
)
from domain.rules import Rules, fold_rules
from domain.workspace_events import IdentityRulesSet, PurposeDefined, SourceRegistered

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


LATE = 1_000
"""Minutes after which everything in these tests is over: events are recorded then or later."""


def at(minutes: float) -> datetime:
    """Name a time."""
    return NOON + timedelta(minutes=minutes)


def record_id(number: int) -> RecordId:
    """Name a record; a smaller number is older."""
    return RecordId(f"{number:08x}-0000-7000-8000-000000000000")


def command_id(number: int) -> CommandId:
    """Name a command."""
    return CommandId(f"{number:08x}-0000-7000-8000-00000000c0de")


def identifier(namespace: str, value: str) -> Identifier:
    """Make an identifier whose key can be read."""
    key = IdentifierKey(f"v1.{namespace}-{value}")
    return Identifier(namespace=namespace, value=value, key=key)


def user(value: str) -> Identifier:
    """Make an identifier of the strongest namespace."""
    return identifier("user_id", value)


def email(value: str) -> Identifier:
    """Make an identifier of a strong namespace."""
    return identifier("email", value)


def loyalty(value: str) -> Identifier:
    """Make an identifier of a weak namespace."""
    return identifier("loyalty_id", value)


def linked(*identifiers: Identifier, source: str | None = "shop") -> IdentifiersLinked:
    """Say that identifiers became known."""
    keys = tuple(item.key for item in identifiers)
    return IdentifiersLinked(source=source, keys=keys, identifiers=identifiers)


def edge(command: int, older: int, newer: int, *, place: int = 1) -> Edge:
    """Name the merge that a command makes of two records."""
    merge_id = MergeId(derived_id(command_id(command), f"merge:{place}"))
    return Edge(merge_id=merge_id, older=record_id(older), newer=record_id(newer))


def consent(command: int, state: str, purpose: str = "marketing", **said: Any) -> ConsentChanged:
    """Say that a command recorded an act."""
    event = CONSENT_EVENTS[ConsentState(state)]
    return event(act_id=command_id(command), purpose=purpose, **said)


def left_out(reason: str, *identifiers: Identifier) -> tuple[LeftOut, ...]:
    """Say that identifiers were not used."""
    return tuple(LeftOut(key=item.key, reason=LeftOutReason(reason)) for item in identifiers)


def touched(record: int) -> CustomerTouched:
    """Say that a record of the customer changed."""
    return CustomerTouched(record_id=record_id(record))


Placed = tuple[Stream, Event]


def on(record: int, body: Event) -> Placed:
    """Place an event on a record's stream."""
    return record_stream(record_id(record)), body


def claim(item: Identifier, record: int) -> Placed:
    """Place a claim on an identifier's stream."""
    return identifier_stream(item.key), IdentifierClaimed(record_id=record_id(record))


def recorded(stream: Stream, body: Event, *, revision: int, **said: Any) -> Recorded[Event]:
    """Put an event in a place in the log; by default it happened when it was recorded."""
    now = said.pop("recorded_at", at(LATE) + timedelta(microseconds=revision))
    fields: dict[str, Any] = {
        "version": revision,
        "event_id": EventId(str(uuid5(UUID(int=0), str(revision)))),
        "happened_at": now,
        "recorded_at": now,
        "command_id": command_id(0xFFFF0000 + revision),
        "decision_id": DecisionId(str(UUID(int=revision))),
        "part": 1,
        "parts": 1,
        "auth_id": "test",
    }
    return Recorded(stream=stream, revision=revision, body=body, **(fields | said))


WIDE = IdentityRules(
    namespaces=tuple(n.model_copy(update={"values_max": 512}) for n in DEFAULT.namespaces)
)
"""Rules under which only the limits of a customer count."""


def rules_of(purposes: Mapping[str, LawfulBasis], sources: Mapping[str, Iterable[str]]) -> Rules:
    """Make the rules of a workspace."""
    bodies: list[Event] = [PurposeDefined(purpose=p, basis=b) for p, b in purposes.items()]
    bodies += [SourceRegistered(source=s, purposes=tuple(p)) for s, p in sources.items()]
    bodies.append(IdentityRulesSet(rules=WIDE))
    places = enumerate(bodies, start=1)
    return fold_rules(Rules(), [recorded(WORKSPACE_STREAM, b, revision=r) for r, b in places])


RULES = rules_of(
    {
        "service": LawfulBasis.CONTRACT,
        "analytics": LawfulBasis.LEGITIMATE_INTEREST,
        "marketing": LawfulBasis.CONSENT,
    },
    {"shop": ["service", "marketing"], "ads": ["marketing"], "web": ["analytics", "marketing"]},
)


def merged(command: int, root: int, edges: list[Edge], evidence: list[Identifier]) -> Any:
    """Say that customers merged, as it stands on a record that is not the root."""
    return CustomersMerged(
        root=record_id(root),
        edges=tuple(edges),
        evidence=tuple(item.key for item in evidence),
        rules_version=RULES.version,
    )


def merged_whole(
    command: int,
    members: list[int],
    edges: list[Edge],
    *,
    evidence: list[Identifier],
    live: list[Edge] | None = None,
) -> CustomersMerged:
    """Say that customers merged, as it stands on the root."""
    return CustomersMerged(
        root=record_id(members[0]),
        edges=tuple(edges),
        evidence=tuple(item.key for item in evidence),
        component=tuple(record_id(member) for member in members),
        live_edges=(*(live or []), *edges),
        rules_version=RULES.version,
    )
