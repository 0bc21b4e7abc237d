"""One record: the fold of one event stream. Called by hosts and replays; total, never raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import JsonValue

from domain.consent import ConsentAct
from domain.consent_events import ConsentChanged, act_of
from domain.event import Event, Recorded
from domain.identity import Edge, Identifier
from domain.identity_events import CustomersMerged, IdentifiersLinked
from domain.ids import CommandId, EventId, IdentifierKey, RecordId
from domain.preference_events import HouseholdLinked, HouseholdUnlinked
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import SignalKey, signal_key

COMMANDS_REMEMBERED_FOR = timedelta(hours=24)
COMMANDS_REMEMBERED_MAX = 1_024
MESSAGES_REMEMBERED_MAX = 4_096
"""Per record. What falls out of memory can stand in the log twice; read models count it once."""

Fate = Literal["recorded", "declined"]


@dataclass(frozen=True, slots=True)
class TraitValue:
    """What a source last said of a trait."""

    value: JsonValue
    effective_at: datetime
    event_id: EventId


@dataclass(frozen=True, slots=True)
class RememberedCommand:
    """A command that this record's stream shows to be carried out."""

    revision: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """What is known under the identifiers of one record.

    `traits` is by key, then by source; an identifier whose value was erased keeps its key. On the
    root of a customer `component` lists its records and `edges` the merges that join them;
    elsewhere only `root` is kept up.
    """

    id: RecordId
    root: RecordId
    component: tuple[RecordId, ...]
    edges: tuple[Edge, ...] = ()
    identifiers: Mapping[IdentifierKey, Identifier | None] = field(default_factory=dict)
    traits: Mapping[str, Mapping[str, TraitValue]] = field(default_factory=dict)
    acts: tuple[ConsentAct, ...] = ()
    households: frozenset[str] = frozenset()
    messages: Mapping[SignalKey, Fate] = field(default_factory=dict)
    commands: Mapping[CommandId, RememberedCommand] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"Record<{self.id}>"


def unborn(record_id: RecordId) -> Record:
    """Give the state of a record before its first event: a customer of its own, knowing nothing."""
    return Record(id=record_id, root=record_id, component=(record_id,))


def evolve(record: Record, event: Recorded[Event]) -> Record:
    """Apply one event of the record's stream; what changes nothing here is only remembered."""
    return _apply(_remember(record, event), event)


def fold(record: Record, events: Iterable[Recorded[Event]]) -> Record:
    """Apply events in order."""
    for event in events:
        record = evolve(record, event)
    return record


def _apply(record: Record, event: Recorded[Event]) -> Record:
    match event.body:
        case IdentifiersLinked(keys=held, identifiers=linked):
            known = {**dict.fromkeys(held), **record.identifiers}
            known |= {item.key: item for item in linked}
            return replace(record, identifiers=known)
        case TraitsSet() as body:
            return _set_traits(record, event, body)
        case SignalsRecorded(source=source, signals=signals):
            keys = [signal_key(source, signal.message_id) for signal in signals]
            return replace(record, messages=_remember_messages(record, keys, "recorded"))
        case SignalsDeclined(source=source, message_ids=message_ids):
            keys = [signal_key(source, message_id) for message_id in message_ids]
            return replace(record, messages=_remember_messages(record, keys, "declined"))
        case CustomersMerged() as body:
            return _join(record, body)
        case ConsentChanged() as body:
            return replace(record, acts=(*record.acts, act_of(event, body)))
        case HouseholdLinked(household_id=household):
            return replace(record, households=record.households | {household})
        case HouseholdUnlinked(household_id=household):
            return replace(record, households=record.households - {household})
        case _:
            return record


def _remember(record: Record, event: Recorded[Event]) -> Record:
    """Note the command and its last event, unless its messages identify it anyway."""
    match event.body:
        case SignalsRecorded() if event.command_id not in record.commands:
            return record
        case SignalsDeclined(message_ids=message_ids) if message_ids:
            return record
    commands = _kept_commands(record.commands, event.recorded_at - COMMANDS_REMEMBERED_FOR)
    commands[event.command_id] = RememberedCommand(event.revision, event.recorded_at)
    return replace(record, commands=commands)


def _kept_commands(
    commands: Mapping[CommandId, RememberedCommand], oldest: datetime
) -> dict[CommandId, RememberedCommand]:
    """Copy what is young enough, with room for one more; the first ones are the oldest."""
    kept = dict(commands)
    for command_id, remembered in commands.items():
        if remembered.recorded_at >= oldest and len(kept) < COMMANDS_REMEMBERED_MAX:
            break
        del kept[command_id]
    return kept


def _remember_messages(
    record: Record, keys: Iterable[SignalKey], fate: Fate
) -> Mapping[SignalKey, Fate]:
    messages = dict(record.messages)
    for key in keys:
        messages.setdefault(key, fate)
    surplus = len(messages) - MESSAGES_REMEMBERED_MAX
    for key in list(messages)[: max(0, surplus)]:
        del messages[key]
    return messages


def _set_traits(record: Record, event: Recorded[Event], body: TraitsSet) -> Record:
    traits = dict(record.traits)
    slow_facts = body.traits if body.expires_at is None else {}  # of the others none is decided on
    for key, value in slow_facts.items():
        said = TraitValue(value, event.effective_at, event.event_id)
        traits[key] = {**traits.get(key, {}), body.source: _later(traits, key, body.source, said)}
    if body.message_id is None:
        return replace(record, traits=traits)
    keys = [signal_key(body.source, body.message_id)]
    return replace(record, traits=traits, messages=_remember_messages(record, keys, "recorded"))


def _later(
    traits: Mapping[str, Mapping[str, TraitValue]], key: str, source: str, said: TraitValue
) -> TraitValue:
    known = traits.get(key, {}).get(source)
    if known is None:
        return said
    return max(known, said, key=lambda value: (value.effective_at, value.event_id))


def _join(record: Record, body: CustomersMerged) -> Record:
    if record.id != body.root:
        return replace(record, root=RecordId(body.root), component=(), edges=())
    return replace(
        record,
        root=record.id,
        component=tuple(RecordId(member) for member in body.component),
        edges=body.live_edges,
    )
