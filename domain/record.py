"""One record: the fold of one event stream. Called by hosts and replays; total, never raises.

`evolve` changes a copy, so a state that was handed out never changes. `fold` copies once, at its
beginning, into maps that only it holds (`_Growing`), and so is linear in its events.
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
from domain.households import Words, hear
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
    grown = _copied(record)
    _grow(grown, event)
    return grown


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
        _grow(grown, event)
    return replace(
        grown,
        traits=dict(grown.traits),
        acts=tuple(grown.acts),
        messages=dict(grown.messages),
        commands=dict(grown.commands),
    )


def _grow(record: Record, event: Recorded[Event]) -> None:
    """Apply an event to a record that nobody else holds, though others may hold its maps."""
    _remember(record, event)
    _apply(record, event)


def _copied(record: Record) -> Record:
    """Do as `copy` does, in a fifth of the time."""
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
        record.messages,
        record.commands,
        record.forgotten,
        record.erased_since,
        record.changed_revision,
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


def _apply(record: Record, event: Recorded[Event]) -> None:
    match event.body:
        case SignalsRecorded(source=source, signals=signals):
            _remember_messages(record, source, [s.message_id for s in signals], "recorded")
        case IdentifiersLinked(keys=held, identifiers=linked):
            known = {**dict.fromkeys(held), **record.identifiers}
            record.identifiers = known | {item.key: item for item in linked}
        case IdentifiersUnlinked(keys=released):
            kept = {k: item for k, item in record.identifiers.items() if k not in released}
            record.identifiers = kept
        case IdentifiersTakenOver(holders=holders):
            distinct = dict.fromkeys((*record.past_holders, *holders))
            remembering = still_remembering(distinct, event.command_id)
            record.past_holders = remembering[-PAST_HOLDERS_MAX:]
        case TraitsSet() as body:
            _set_traits(record, event, body)
        case SignalsDeclined(source=source, message_ids=message_ids):
            _remember_messages(record, source, message_ids, "declined")
        case CustomersMerged() | CustomersParted() | ErasureRequested() as body:
            _regroup(record, event, body)
        case ConsentChanged() | ChoicesRecorded():
            record.acts = _with_acts(record.acts, acts_of(event))
        case HouseholdLinked() | HouseholdUnlinked() as body:
            words = hear(record.households.get(body.household_id, {}), event, body)
            record.households = {**record.households, body.household_id: words}
        case _:
            pass


_OfAll = CustomersMerged | CustomersParted | ErasureRequested
"""What stands on every record of a customer, whole on the root."""


def _regroup(record: Record, event: Recorded[Event], body: _OfAll) -> None:
    separations: tuple[Separation, ...] = ()
    if isinstance(body, ErasureRequested):
        _erase(record, event)
    else:
        separations = body.separations
    if isinstance(body, CustomersParted):
        _part(record, event, body)
    is_root = record.id == body.root
    record.root = RecordId(body.root)
    record.component = tuple([RecordId(member) for member in body.component]) if is_root else ()
    record.edges = body.live_edges if is_root else ()
    record.separations = separations if is_root else ()


def _erase(record: Record, event: Recorded[Event]) -> None:
    """Leave whom it parted from, and which commands were carried out: ids alone."""
    left = replace(
        unborn(record.id),
        parted=record.parted,
        past_holders=record.past_holders,
        commands=record.commands,
        forgotten=record.forgotten,
        erased_since=event.revision,
        changed_revision=event.revision,
    )
    for name in Record.__slots__:
        setattr(record, name, getattr(left, name))


def still_remembering(
    holders: Iterable[PastHolder], command_id: CommandId
) -> tuple[PastHolder, ...]:
    """Leave out whose commands are all too old to be sent again, as of a command's making."""
    oldest = made_at_milliseconds(command_id) - _KEPT_MILLISECONDS
    return tuple(holder for holder in holders if holder.until >= oldest)


def _remember(record: Record, event: Recorded[Event]) -> None:
    """Note the command and its last event, unless its messages identify it anyway."""
    match event.body:
        case SignalsRecorded() if event.command_id not in record.commands:
            return
        case SignalsDeclined(message_ids=message_ids) if message_ids:
            return
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
    record.commands = commands
    record.forgotten = tuple([some for some in forgotten if some.until >= oldest])
    if not isinstance(event.body, _Done):
        record.changed_revision = event.revision


def _also_forgotten(
    forgotten: tuple[Forgotten, ...], revision: int, made_at: int
) -> tuple[Forgotten, ...]:
    """Add a command to the last span of time, or begin a new one: a day has few of them."""
    if not forgotten or made_at >= forgotten[-1].since + _SPAN_MILLISECONDS:
        return (*forgotten, Forgotten(revision, since=made_at, until=made_at))
    last = forgotten[-1]
    return (*forgotten[:-1], replace(last, until=max(last.until, made_at)))


def _remember_messages(record: Record, source: str, ids: Sequence[str], fate: Fate) -> None:
    messages = _own(record.messages)
    for message_id in ids:
        messages.setdefault(signal_key(source, message_id), fate)
    while len(messages) > MESSAGES_REMEMBERED_MAX:
        del messages[next(iter(messages))]
    record.messages = messages


def _set_traits(record: Record, event: Recorded[Event], body: TraitsSet) -> None:
    if body.expires_at is None:  # of the others none is decided on
        traits = _own(record.traits)
        for key, value in body.traits.items():
            said = TraitValue(value, event.effective_at, event.event_id)
            known = traits.get(key, {})
            traits[key] = {**known, body.source: _later(known.get(body.source), said)}
        record.traits = traits
    if body.message_id is not None:
        _remember_messages(record, body.source, [body.message_id], "recorded")


def _later(known: TraitValue | None, said: TraitValue) -> TraitValue:
    if known is None:
        return said
    return max(known, said, key=lambda value: (value.effective_at, value.event_id))


def _part(record: Record, event: Recorded[Event], body: CustomersParted) -> None:
    foreign = set(body.foreign_acts)
    if foreign:
        kept = [act for act in record.acts if act.act_id not in foreign]
        record.acts = type(record.acts)(kept)
    if record.id == body.root:
        oldest = event.recorded_at - COMMANDS_REMEMBERED_FOR
        parted = {other: at for other, at in record.parted.items() if at >= oldest}
        others = (RecordId(root) for root in body.roots if root != record.id)
        record.parted = {**parted, **dict.fromkeys(others, event.recorded_at)}
