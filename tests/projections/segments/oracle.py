"""The slow, obvious answer to who belongs: everything again from the bare list of events.

Imports neither `projections` nor `replay`. Expressions are trees of this file, which know how to
write themselves in CEL and how to answer by looking at every event; nothing is kept in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from domain.event import Event, Recorded
from domain.identity_events import IdentifiersLinked, IdentifiersUnlinked
from domain.ids import RecordId
from domain.preference_events import PreferencesSet
from domain.signal_events import SignalsRecorded
from domain.signals import Signal
from domain.workspace_events import (
    ClockAdvanced,
    PurposeDefined,
    SegmentActivated,
    SegmentArchived,
    SegmentDefined,
    SourceRegistered,
)
from tests.projections import oracle as customers

Events = Sequence[Recorded[Event]]
Memberships = dict[str, set[RecordId]]


@dataclass(frozen=True)
class Person:
    """A customer at an instant, as one segment may see it."""

    events: Events
    members: set[RecordId]
    sources: set[str]
    now: datetime
    segment: Callable[[str], bool]

    def signals(self, name: str, window: timedelta | None = None) -> list[tuple[datetime, Signal]]:
        seen: set[tuple[str, str]] = set()
        found = []
        for event in self.events:
            if event.stream.key not in self.members or not isinstance(event.body, SignalsRecorded):
                continue
            for signal in event.body.signals:
                identity = (event.body.source, signal.message_id)
                if identity in seen:
                    continue
                seen.add(identity)
                at = min(signal.happened_at, event.recorded_at)
                is_inside = window is None or at > self.now - window
                if signal.name == name and event.body.source in self.sources and is_inside:
                    found.append((at, signal))
        return sorted(found, key=lambda pair: pair[0])


def clock(events: Events) -> datetime:
    """The greatest recorded time, moved on by whoever said that time passed."""
    said = [event.body.to for event in events if isinstance(event.body, ClockAdvanced)]
    return max([event.recorded_at for event in events] + said)


def memberships(
    events: Events, trees: dict[str, Tree], *, at: datetime | None = None
) -> Memberships:
    """Who belongs to each active segment after these events, at an instant (now, if none)."""
    now = at or clock(events)
    sources = {e.body.source: e.body for e in events if isinstance(e.body, SourceRegistered)}
    active = _active(events)
    found: Memberships = {name: set() for name in active}
    for members in customers.customers(events):

        def belongs(name: str, members: set[RecordId] = members) -> bool:
            if name not in active:
                return False
            defined = active[name]
            seen = {
                source
                for source, body in sources.items()
                if defined.exception or set(defined.purposes) <= set(body.purposes)
            }
            return trees[defined.expression].holds(Person(events, members, seen, now, belongs))

        for name in active:
            if belongs(name):
                found[name].add(min(members))
    return found


def _active(events: Events) -> dict[str, SegmentDefined]:
    defined: dict[str, SegmentDefined] = {}
    active: dict[str, SegmentDefined] = {}
    for event in events:
        match event.body:
            case SegmentDefined() as body:
                defined[body.segment] = body
            case SegmentActivated() as body:
                active[body.segment] = defined[body.segment]
            case SegmentArchived() as body:
                active.pop(body.segment, None)
            case _:
                pass
    return active


class Tree:
    """A condition on a person."""

    cel: str

    def holds(self, person: Person) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class Both(Tree):
    one: Tree
    other: Tree
    sign: str

    @property
    def cel(self) -> str:  # type: ignore[override]  # computed here
        return f"({self.one.cel} {self.sign} {self.other.cel})"

    def holds(self, person: Person) -> bool:
        one, other = self.one.holds(person), self.other.holds(person)
        return (one and other) if self.sign == "&&" else (one or other)


@dataclass(frozen=True)
class Not(Tree):
    one: Tree

    @property
    def cel(self) -> str:  # type: ignore[override]  # computed here
        return f"!({self.one.cel})"

    def holds(self, person: Person) -> bool:
        return not self.one.holds(person)


@dataclass(frozen=True)
class Leaf(Tree):
    cel: str
    answer: Callable[[Person], bool]

    def holds(self, person: Person) -> bool:
        return self.answer(person)


WINDOWS = {"40s": 40, "5m": 300, "1h": 3_600, "ever": None}
NAMES = ("A", "B", "C")


def count(name: str, window: str, least: int) -> Leaf:
    cel = f'count("{name}", "{window}") >= {least}'
    return Leaf(cel, lambda p: len(p.signals(name, _span(window))) >= least)


def filtered(name: str, window: str, least: int) -> Leaf:
    cel = f'count("{name}", "{window}", "properties.amount >= 5") == {least}'

    def answer(p: Person) -> bool:
        amounts = [s.properties.get("amount") for _, s in p.signals(name, _span(window))]
        return len([a for a in amounts if isinstance(a, int | float) and a >= 5]) == least

    return Leaf(cel, answer)


def seen(name: str, window: str) -> Leaf:
    return Leaf(f'seen("{name}", "{window}")', lambda p: bool(p.signals(name, _span(window))))


def total(name: str, window: str, least: int) -> Leaf:
    cel = f'sum("{name}", "amount", "{window}") > {least}.0'
    return Leaf(cel, lambda p: sum(_amounts(p, name, window)) > least)


def extreme(which: str, name: str, window: str, *, bound: int) -> Leaf:
    cel = f'({which}("{name}", "amount", "{window}") != null && '
    cel += f'{which}("{name}", "amount", "{window}") < {bound}.5)'
    choose = min if which == "min" else max

    def answer(p: Person) -> bool:
        amounts = _amounts(p, name, window)
        return bool(amounts) and choose(amounts) < Fraction(2 * bound + 1, 2)

    return Leaf(cel, answer)


def late_first(name: str, window: str, second: int, *, start: datetime) -> Leaf:
    at = start + timedelta(seconds=second)
    written = f'timestamp("{at:%Y-%m-%dT%H:%M:%SZ}")'
    cel = f'(first("{name}", "{window}") != null && first("{name}", "{window}") >= {written})'
    return Leaf(cel, lambda p: _is_first_from(p, name, window, at=at))


def mean(name: str, window: str, bound: int) -> Leaf:
    counted, summed = f'count("{name}", "{window}")', f'sum("{name}", "amount", "{window}")'

    def answer(p: Person) -> bool:
        number, amounts = len(p.signals(name, _span(window))), _amounts(p, name, window)
        return number > 0 and sum(amounts) / number > bound

    return Leaf(f"({counted} > 0 && {summed} / {counted} > {bound})", answer)


def priced(name: str, window: str, least: int) -> Leaf:
    """Reckon with numbers of every type within a filter."""
    cel = f'count("{name}", "{window}", "properties.amount * 1.5 - 1 > 5") >= {least}'

    def answer(p: Person) -> bool:
        amounts = _amounts(p, name, window)
        return len([a for a in amounts if a * Fraction(3, 2) - 1 > 5]) >= least

    return Leaf(cel, answer)


def reckoned(name: str, bound: int) -> Leaf:
    """Reckon with a trait that may be a whole number or a double."""
    cel = f"(has(traits.{name}) && traits.{name} * 2 + 0.5 > {bound})"

    def answer(p: Person) -> bool:
        value = _traits(p).get(name)
        return isinstance(value, int | float) and Fraction(value) * 2 + Fraction(1, 2) > bound

    return Leaf(cel, answer)


def sequence(one: str, then: str, without: str, *, window: str) -> Leaf:
    cel = f'sequence("{one}", "{then}", "100s", "{without}", "{window}")'

    def answer(p: Person) -> bool:
        between = [at for at, _ in p.signals(without)] if without else []
        return any(
            first < second <= first + timedelta(seconds=100)
            and not any(first < at < second for at in between)
            for first, _ in p.signals(one)
            for second, _ in p.signals(then, _span(window))
        )

    return Leaf(cel, answer)


def trait(name: str, value: int) -> Leaf:
    def answer(p: Person) -> bool:
        return _traits(p).get(name) == value

    return Leaf(f"traits.{name} == {value}", answer)


def has_trait(name: str) -> Leaf:
    return Leaf(f"has(traits.{name})", lambda p: name in _traits(p))


def nested(name: str) -> Leaf:
    return Leaf(f'segment("{name}")', lambda p: p.segment(name))


def identified(namespace: str) -> Leaf:
    def answer(p: Person) -> bool:
        held: dict[tuple[str, str], set[str]] = {}
        for event in p.events:
            if event.stream.key not in p.members:
                continue
            if isinstance(event.body, IdentifiersLinked):
                for item in event.body.identifiers:
                    by = held.setdefault((event.stream.key, item.key), set())
                    by |= {event.body.source or ""} if item.namespace == namespace else set()
            elif isinstance(event.body, IdentifiersUnlinked):
                for key in event.body.keys:
                    held.pop((event.stream.key, key), None)
        return any(by & p.sources for by in held.values())

    return Leaf(f'identified("{namespace}")', answer)


def preference(channel: str, topic: str, *, among: tuple[str, ...]) -> Leaf:
    said = f'preference("{channel}", "{topic}")' if topic else f'preference("{channel}")'
    cel = f"{said} in {list(among)}".replace("'", '"')

    def answer(p: Person) -> bool:
        newest: tuple[datetime, str] | None = None
        frequency = None
        for event in p.events:
            if event.stream.key in p.members and isinstance(event.body, PreferencesSet):
                order = (event.effective_at, event.event_id)
                for item in event.body.preferences:
                    is_it = (item.channel, item.topic) == (channel, topic)
                    if is_it and (newest is None or order > newest):
                        newest, frequency = order, item.frequency
        return frequency in among

    return Leaf(cel, answer)


def consent(purpose: str) -> Leaf:
    def answer(p: Person) -> bool:
        known = {e.body.purpose: e.body for e in p.events if isinstance(e.body, PurposeDefined)}
        above: list[str] = []
        while (parent := known[above[-1] if above else purpose].parent) is not None:
            above.append(parent)
        basis = known[purpose].basis
        return customers.is_open(
            p.events, p.members, purpose, basis, at=p.now, ancestors=tuple(above)
        )

    return Leaf(f'consent("{purpose}")', answer)


def _is_first_from(p: Person, name: str, window: str, *, at: datetime) -> bool:
    times = [time for time, _ in p.signals(name, _span(window))]
    return bool(times) and times[0] >= at


def _traits(p: Person) -> dict[str, object]:
    ranks = {
        e.body.source: e.body.priority
        for e in p.events
        if isinstance(e.body, SourceRegistered) and e.body.source in p.sources
    }
    return customers.traits(p.events, p.members, ranks)


def _amounts(p: Person, name: str, window: str) -> list[Fraction]:
    said = [signal.properties.get("amount") for _, signal in p.signals(name, _span(window))]
    return [Fraction(repr(amount)) for amount in said if isinstance(amount, int | float)]


def _span(window: str) -> timedelta | None:
    seconds = WINDOWS[window]
    return None if seconds is None else timedelta(seconds=seconds)
