"""One record: the fold of one event stream. Called by hosts and replays; total, never raises.

`evolve` copies what it changes, so a state that was handed out never changes. `fold` copies once,
at its beginning, into maps that only it holds (`_Growing`), and so is linear in its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar, cast

from pydantic import JsonValue

from domain.command_origins import ANY_COMMAND, origins_of
from domain.consent import ConsentAct
from domain.consent_events import ChoicesRecorded, ConsentChanged, VerdictRecorded, acts_of
from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.households import Told, Words, hear
from domain.identity import Edge, Identifier, PastHolder, Separation
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    IdentifiersLinked,
    IdentifiersTakenOver,
    IdentifiersUnlinked,
)
from domain.ids import (
    MILLISECOND,
    CommandId,
    EventId,
    IdentifierKey,
    RecordId,
    made_at_milliseconds,
)
from domain.preference_events import HouseholdLinked, HouseholdUnlinked
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import SignalKey, signal_key

COMMANDS_REMEMBERED_FOR = timedelta(hours=24)
COMMANDS_AHEAD_MAX = timedelta(minutes=5)
"""How far the clock of whoever made a command's id may be ahead of a host's."""

COMMANDS_REMEMBERED_MAX = 1_024
"""Per record. What falls out of memory before its time is looked for in the log: `Forgotten`."""

PAST_HOLDERS_MAX = 512
"""Per record, the newest; each may have to be awake for what comes with their identifier."""

FORGOTTEN_SPAN = timedelta(hours=1)
MESSAGES_REMEMBERED_MAX = 4_096
"""Per record. What falls out of memory can stand in the log twice; read models count it once."""

FOLD_VERSION = 1
"""Raised when the same events come to another state in the same fields: snapshots are made anew."""

_KEPT_MILLISECONDS = (COMMANDS_REMEMBERED_FOR + 2 * COMMANDS_AHEAD_MAX) // MILLISECOND
_SPAN_MILLISECONDS = FORGOTTEN_SPAN // MILLISECOND

Fate = Literal["recorded", "declined"]

_Done = SignalsRecorded | SignalsDeclined | VerdictRecorded
"""Events of what was done, by the person or for an answer: they change nobody."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class TraitValue:
    """What a source last said of a trait."""

    value: JsonValue
    effective_at: datetime
    event_id: EventId


@dataclass(frozen=True, slots=True)
class RememberedCommand:
    """A command that this record's stream shows to be carried out: its last event.

    `origins` are the kinds of commands that all its events can come of (`command_origins.py`).
    """

    revision: int
    origins: int = ANY_COMMAND


def remembered(known: RememberedCommand | None, event: Recorded[Event]) -> RememberedCommand:
    """Remember a command by one event more."""
    origins = origins_of(event.body)
    return RememberedCommand(event.revision, origins & known.origins if known else origins)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Commands for which there was no room: the first one's revision, and when their ids were made.

    In milliseconds since 1970; the log's own clock may be turned by hand, ids are not.
    """

    revision: int
    since: int
    until: int


@dataclass(slots=True)  # to make one that is frozen takes four times as long
class Record:
    """What is known under the identifiers of one record.

    `traits` is by key, then by source, `households` by id; an identifier whose value was erased
    keeps its key. On the root of a customer `component` lists its records, `edges` the merges that
    join them and `separations` whom they may not join; elsewhere only `root` is kept up. `parted`
    says which customers parted from one whose root this was, and when; `past_holders` who held its
    identifiers not long before it did. `erased_since` is the revision from which on the person is
    erased, 0 for somebody who is not. `changed_revision` is that of the newest event that changes
    who somebody is or what is so of them: not of one that says what they did.
    """

    id: RecordId
    root: RecordId
    component: tuple[RecordId, ...]
    edges: tuple[Edge, ...] = ()
    separations: tuple[Separation, ...] = ()
    parted: Mapping[RecordId, datetime] = field(default_factory=dict)
    past_holders: tuple[PastHolder, ...] = ()
    identifiers: Mapping[IdentifierKey, Identifier | None] = field(default_factory=dict)
    traits: Mapping[str, Mapping[str, TraitValue]] = field(default_factory=dict)
    acts: tuple[ConsentAct, ...] = ()
    households: Mapping[str, Words] = field(default_factory=dict)
    messages: Mapping[SignalKey, Fate] = field(default_factory=dict)
    commands: Mapping[CommandId, RememberedCommand] = field(default_factory=dict)
    forgotten: tuple[Forgotten, ...] = ()
    erased_since: int = 0
    changed_revision: int = 0

    def __str__(self) -> str:
        return f"Record<{self.id}>"


def unborn(record_id: RecordId) -> Record:
    """Give the state of a record before its first event: a customer of its own, knowing nothing."""
    return Record(id=record_id, root=record_id, component=(record_id,))


def evolve(record: Record, event: Recorded[Event]) -> Record:
    """Apply one event of the record's stream; what changes nothing here is only remembered."""
    return _apply(_remember(record, event), event)


def fold(record: Record, events: Iterable[Recorded[Event]]) -> Record:
    """Apply events in order; the same as `evolve` for each, in linear time."""
    grown = replace(
        record,
        traits=_Growing(record.traits),
        acts=cast("tuple[ConsentAct, ...]", _GrowingActs(record.acts)),
        messages=_Growing(record.messages),
        commands=_Growing(record.commands),
    )
    for event in events:
        grown = evolve(grown, event)
    return replace(
        grown,
        traits=dict(grown.traits),
        acts=tuple(grown.acts),
        messages=dict(grown.messages),
        commands=dict(grown.commands),
    )


class _Growing(dict[K, V]):
    """A map that nobody but a fold under way holds, so that it may be changed in place."""


class _GrowingActs(list[ConsentAct]):
    """Acts that nobody but a fold under way holds."""


def _own(known: Mapping[K, V]) -> dict[K, V]:
    """Give a map that may be changed."""
    return known if isinstance(known, _Growing) else dict(known)


def _with_acts(acts: Sequence[ConsentAct], added: tuple[ConsentAct, ...]) -> tuple[ConsentAct, ...]:
    if isinstance(acts, _GrowingActs):
        acts.extend(added)
        return cast("tuple[ConsentAct, ...]", acts)
    return (*acts, *added)


def _apply(record: Record, event: Recorded[Event]) -> Record:
    match event.body:
        case SignalsRecorded(source=source, signals=signals):
            keys = [signal_key(source, signal.message_id) for signal in signals]
            return _with_messages(record, _remember_messages(record, keys, "recorded"))
        case IdentifiersLinked(keys=held, identifiers=linked):
            known = {**dict.fromkeys(held), **record.identifiers}
            known |= {item.key: item for item in linked}
            return replace(record, identifiers=known)
        case IdentifiersUnlinked(keys=released):
            held_on = {k: item for k, item in record.identifiers.items() if k not in released}
            return replace(record, identifiers=held_on)
        case IdentifiersTakenOver(holders=holders):
            distinct = dict.fromkeys((*record.past_holders, *holders))
            kept = still_remembering(distinct, event.command_id)
            return replace(record, past_holders=kept[-PAST_HOLDERS_MAX:])
        case TraitsSet() as body:
            return _set_traits(record, event, body)
        case SignalsDeclined(source=source, message_ids=message_ids):
            keys = [signal_key(source, message_id) for message_id in message_ids]
            return replace(record, messages=_remember_messages(record, keys, "declined"))
        case CustomersMerged() | CustomersParted() | ErasureRequested() as body:
            return _regroup(record, event, body)
        case ConsentChanged() | ChoicesRecorded():
            return replace(record, acts=_with_acts(record.acts, acts_of(event)))
        case HouseholdLinked() | HouseholdUnlinked() as body:
            return _hear_of_household(record, event, body)
        case _:
            return record


_OfAll = CustomersMerged | CustomersParted | ErasureRequested
"""What stands on every record of a customer, whole on the root."""


def _regroup(record: Record, event: Recorded[Event], body: _OfAll) -> Record:
    match body:
        case CustomersMerged():
            return _join(record, body)
        case CustomersParted():
            return _part(record, event, body)
        case ErasureRequested():
            return _erase(record, event, body)


def _erase(record: Record, event: Recorded[Event], body: ErasureRequested) -> Record:
    """Leave who it was part of, and which commands were carried out: ids alone."""
    is_root = record.id == body.root
    return Record(
        id=record.id,
        root=RecordId(body.root),
        component=tuple(RecordId(member) for member in body.component) if is_root else (),
        edges=body.live_edges if is_root else (),
        parted=record.parted,
        past_holders=record.past_holders,
        commands=record.commands,
        forgotten=record.forgotten,
        erased_since=event.revision,
        changed_revision=event.revision,
    )


def still_remembering(
    holders: Iterable[PastHolder], command_id: CommandId
) -> tuple[PastHolder, ...]:
    """Leave out whose commands are all too old to be sent again, as of a command's making."""
    oldest = made_at_milliseconds(command_id) - _KEPT_MILLISECONDS
    return tuple(holder for holder in holders if holder.until >= oldest)


def _hear_of_household(record: Record, event: Recorded[Event], body: Told) -> Record:
    words = hear(record.households.get(body.household_id, {}), event, body)
    return replace(record, households={**record.households, body.household_id: words})


def _remember(record: Record, event: Recorded[Event]) -> Record:
    """Note the command and its last event, unless its messages identify it anyway."""
    match event.body:
        case SignalsRecorded() if event.command_id not in record.commands:
            return record
        case SignalsDeclined(message_ids=message_ids) if message_ids:
            return record
    # By the ids' own time, whatever the log's clock says; its maker's clock may be ahead of others.
    oldest = made_at_milliseconds(event.command_id) - _KEPT_MILLISECONDS
    commands, forgotten = _own(record.commands), record.forgotten
    while commands:
        first = next(iter(commands))
        made_at = made_at_milliseconds(first)
        if made_at >= oldest:
            if len(commands) < COMMANDS_REMEMBERED_MAX:
                break
            forgotten = _also_forgotten(forgotten, commands[first].revision, made_at)
        del commands[first]
    known = commands.get(event.command_id)
    commands[event.command_id] = remembered(known, event)
    forgotten = tuple(some for some in forgotten if some.until >= oldest)
    changed = record.changed_revision if isinstance(event.body, _Done) else event.revision
    return replace(record, commands=commands, forgotten=forgotten, changed_revision=changed)


def _also_forgotten(
    forgotten: tuple[Forgotten, ...], revision: int, made_at: int
) -> tuple[Forgotten, ...]:
    """Add a command to the last span of time, or begin a new one: a day has few of them."""
    if not forgotten or made_at >= forgotten[-1].since + _SPAN_MILLISECONDS:
        return (*forgotten, Forgotten(revision, since=made_at, until=made_at))
    last = forgotten[-1]
    return (*forgotten[:-1], replace(last, until=max(last.until, made_at)))


def _remember_messages(
    record: Record, keys: Iterable[SignalKey], fate: Fate
) -> Mapping[SignalKey, Fate]:
    messages = _own(record.messages)
    for key in keys:
        messages.setdefault(key, fate)
    while len(messages) > MESSAGES_REMEMBERED_MAX:
        del messages[next(iter(messages))]
    return messages


def _with_messages(record: Record, messages: Mapping[SignalKey, Fate]) -> Record:
    """Do as `replace` does, in half of the time: nothing happens to a record as often as this."""
    return Record(
        record.id,
        record.root,
        record.component,
        record.edges,
        record.separations,
        record.parted,
        record.past_holders,
        record.identifiers,
        record.traits,
        record.acts,
        record.households,
        messages,
        record.commands,
        record.forgotten,
        record.erased_since,
        record.changed_revision,
    )


def _set_traits(record: Record, event: Recorded[Event], body: TraitsSet) -> Record:
    traits = _own(record.traits)
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
        return replace(record, root=RecordId(body.root), component=(), edges=(), separations=())
    return replace(
        record,
        root=record.id,
        component=tuple(RecordId(member) for member in body.component),
        edges=body.live_edges,
        separations=body.separations,
    )


def _part(record: Record, event: Recorded[Event], body: CustomersParted) -> Record:
    foreign = set(body.foreign_acts)
    if foreign:
        kept = [act for act in record.acts if act.act_id not in foreign]
        record = replace(record, acts=type(record.acts)(kept))
    if record.id != body.root:
        return replace(record, root=RecordId(body.root), component=(), edges=(), separations=())
    oldest = event.recorded_at - COMMANDS_REMEMBERED_FOR
    parted = {other: at for other, at in record.parted.items() if at >= oldest}
    others = (RecordId(root) for root in body.roots if root != record.id)
    return replace(
        record,
        root=record.id,
        component=tuple(RecordId(member) for member in body.component),
        edges=body.live_edges,
        separations=body.separations,
        parted={**parted, **dict.fromkeys(others, event.recorded_at)},
    )
