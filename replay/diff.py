"""What changed for one customer between two past states, field by field, and by which events.

The later state is reached decision by decision from the earlier one, so each change is seen when it
happens; what changes between two decisions changed because time passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

import orjson
from pydantic import JsonValue

from domain.errors import Invalid
from domain.event import Event, Recorded
from domain.ids import EventId, RecordId, StreamKind
from domain.rules import AUDIT
from domain.workspace_events import SegmentEvent
from eventlog.port import Entry
from eventlog.registry import wire_name
from projections.clock import time_moved_to
from projections.contexts import ContextClaim
from projections.fold import fold_excerpt, let_time_pass
from projections.instants import time_of
from projections.memory import MemoryTables
from projections.preferences import StatedPreference
from projections.profile import KnownIdentifier
from projections.segments.membership import read_membership
from projections.tallies import Tally
from projections.views import CustomerView, PurposeStanding, Trait
from replay.as_of import Prefix, within
from replay.customer import PastMembers, Streams, erased_records, load_customers

EVENTS_MAX = 10_000
"""Between the two states; the view is made again after each decision."""

Fields = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a field; without events, time alone changed it. `value` is None for none."""

    revision: int
    events: tuple[Recorded[Event], ...]
    value: JsonValue

    @property
    def event_ids(self) -> tuple[EventId, ...]:
        """The ids of the decision's events."""
        return tuple(event.event_id for event in self.events)

    @property
    def types(self) -> tuple[str, ...]:
        """The wire names of the decision's events, each once."""
        return tuple(dict.fromkeys(wire_name(type(event.body)) for event in self.events))

    @property
    def auth_id(self) -> str:
        """Who did it; nobody, where time did."""
        return self.events[0].auth_id if self.events else ""

    @property
    def recorded_at(self) -> datetime | None:
        """When it was recorded."""
        return self.events[0].recorded_at if self.events else None


@dataclass(frozen=True, slots=True)
class Change:
    """A field that is not what it was, and every change of it on the way."""

    name: str
    before: JsonValue
    after: JsonValue
    steps: tuple[Step, ...]


@dataclass(slots=True)
class _Walk:
    past: PastMembers
    record_id: RecordId
    view: CustomerView | None = None
    seen: Fields = field(default_factory=dict)
    steps: dict[str, list[Step]] = field(default_factory=dict)

    def see(self, events: Sequence[Recorded[Event]] = ()) -> Fields:
        """Look at what these events may have changed; at all, where time did it."""
        if not events or not all(isinstance(event.body, SegmentEvent) for event in events):
            self.view = self.past.view(self.record_id, AUDIT)
        self.seen = _fields(self.past, self.view)
        return self.seen

    def is_due(self, time: datetime) -> bool:
        """Say whether something may be seen otherwise by a time, with nothing else happening."""
        if self.view is None:
            return False
        row = read_membership(self.past.tables, self.view.customer_id)
        ends = [self.view.sure_until, time_of(row["next"]) if row and row["next"] else None]
        return any(end is not None and end <= time for end in ends)

    def look(self, revision: int, events: Sequence[Recorded[Event]]) -> None:
        """Note what is not as it was at the last look."""
        before = self.seen
        self.see(events)
        for name in sorted(before.keys() | self.seen.keys()):
            if _encoded(before, name) != _encoded(self.seen, name):
                step = Step(revision, tuple(events), self.seen.get(name))
                self.steps.setdefault(name, []).append(step)


async def diff_customer(
    log: Streams, record_id: RecordId, *, earlier: Prefix, later: Prefix
) -> list[Change]:
    """Compare a customer in two past states. Raises as `PastCustomers.view`, and `Invalid`.

    Names of fields that came and went on the way are given too, with nothing before and after.
    """
    if earlier.revision > later.revision or earlier.clock > later.clock:
        raise Invalid("INVALID_AS_OF", "the earlier state comes first")
    if earlier.happened or later.happened:
        raise Invalid("INVALID_AS_OF", "states are compared by when they were known")
    loaded = await load_customers(log, later, record_ids=[record_id])
    entries = within(loaded, later)
    begun = [entry for entry in entries if entry.revision <= earlier.revision]
    if len(entries) - len(begun) > EVENTS_MAX:
        raise Invalid("INVALID_FIELD", f"more than {EVENTS_MAX} events lie between the two")
    tables = MemoryTables()
    if begun:
        fold_excerpt(tables, begun)
    let_time_pass(tables, earlier.clock)
    past = PastMembers(tables, later, tuple(entries), erased_records(loaded))
    walk = _Walk(past, record_id)
    first = walk.see()
    for decision in decisions_of(entries[len(begun) :]):
        _follow(walk, tables, decision)
    let_time_pass(tables, later.clock)
    walk.look(later.revision, ())
    return [
        Change(name, first.get(name), walk.seen.get(name), tuple(walk.steps[name]))
        for name in sorted(walk.steps)
    ]


def fields_of(past: PastMembers, record_id: RecordId) -> Fields:
    """Flatten what an auditor sees of a customer into named fields; none for nobody.

    What else is known of a field stands under its name: `source.traits.tier` beside `traits.tier`.
    """
    return _fields(past, past.view(record_id, AUDIT))


def _fields(past: PastMembers, view: CustomerView | None) -> Fields:
    if view is None:
        return {}
    named = past.segments(view.customer_id)
    return {**_seen(view), **{f"segments.{name}": True for name in named}}


def _seen(view: CustomerView) -> dict[str, JsonValue]:
    records: list[JsonValue] = list(view.members)
    fields: dict[str, JsonValue] = {"customer_id": view.customer_id, "record_ids": records}
    for part in (
        map(_identifier, view.identifiers),
        map(_trait, view.traits),
        map(_consent, view.consents),
        map(_tally, view.tallies),
        map(_context, view.context),
        map(_preference, view.preferences),
    ):
        for told in part:
            fields |= told
    return fields | {f"households.{home.household_id}": True for home in view.households}


def _identifier(known: KnownIdentifier) -> dict[str, JsonValue]:
    name = f"identifiers.{known.namespace}:{known.value}"
    return {name: True, f"sources.{name}": list(known.sources)}


def _trait(trait: Trait) -> dict[str, JsonValue]:
    name, winner = f"traits.{trait.name}", trait.winner
    losers: list[JsonValue] = [
        {"value": claim.value, "source": claim.source, "happened_at": _text(claim.effective_at)}
        for claim in trait.losers
    ]
    return {
        name: winner.value,
        f"source.{name}": winner.source,
        f"happened_at.{name}": _text(winner.effective_at),
        **({f"losers.{name}": losers} if losers else {}),
    }


def _consent(place: PurposeStanding) -> dict[str, JsonValue]:
    name, shown = f"consents.{place.purpose.name}", place.standing
    told: dict[str, JsonValue] = {
        name: f"{'open' if shown.is_open else 'closed'}, {shown.state.value}"
    }
    if shown.act is not None:
        told[f"happened_at.{name}"] = _text(shown.act.effective_at)
        if shown.act.notice_version is not None:
            told[f"notice_version.{name}"] = shown.act.notice_version
    if shown.valid_until is not None:
        told[f"valid_until.{name}"] = _text(shown.valid_until)
    return told


def _tally(tally: Tally) -> dict[str, JsonValue]:
    name = f"signals.{tally.source}.{tally.name}"
    sums = {f"{name}.sums.{of}": format(total.total, "f") for of, total in tally.sums.items()}
    return {f"{name}.count": tally.count, **sums}


def _context(claim: ContextClaim) -> dict[str, JsonValue]:
    name = f"context.{claim.key}"
    return {
        name: claim.value,
        f"source.{name}": claim.source,
        f"happened_at.{name}": _text(claim.effective_at),
        f"expires_at.{name}": _text(claim.expires_at),
    }


def _preference(stated: StatedPreference) -> dict[str, JsonValue]:
    name = f"preferences.{stated.channel}/{stated.topic}"
    return {name: stated.frequency, f"happened_at.{name}": _text(stated.effective_at)}


def _text(time: datetime) -> str:
    return time.isoformat()


def _encoded(fields: Fields, name: str) -> bytes | None:
    """Write a value, so that 1 is not true, and null is not nothing."""
    return orjson.dumps(fields[name], option=orjson.OPT_SORT_KEYS) if name in fields else None


def decisions_of(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Group what belongs to one decision; what cannot be read stands alone."""
    for _, group in groupby(entries, key=lambda e: e.event.decision_id if e.event else e.revision):
        yield list(group)


def _follow(walk: _Walk, tables: MemoryTables, decision: Sequence[Entry]) -> None:
    events = [entry.event for entry in decision if entry.event is not None]
    time = max(map(time_moved_to, events), default=None)
    if time is not None and walk.is_due(time):
        let_time_pass(tables, time)
        walk.look(decision[0].revision - 1, ())
    fold_excerpt(tables, decision)
    said = [event for event in events if event.stream.kind is not StreamKind.IDENTIFIER]
    walk.look(decision[-1].revision, said)
