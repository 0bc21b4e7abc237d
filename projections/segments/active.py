"""What stands at a revision: every active segment compiled, and who reads what.

No segment comes before one that it uses, so that a single pass in order answers them all.

Beside the workspace's own there is one for everybody and one for each purpose (who has it open), so
that their sets, their instants of change and their way through merges are kept by the same means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from domain.rules import Rules
from projections.memory import MemoryTables
from projections.segments.evaluation import evaluator
from projections.segments.facts import Facts
from projections.segments.language import Expression
from projections.segments.timelines import Sight

EVERYONE = "~everyone"
PURPOSE_PREFIX = "~purpose."
GIVEN = -1
ANSWERS_KEPT_MAX = 10_000

Indexes = frozenset[int]
"""Places in `ActiveSet.order`."""


def purpose_set(purpose: str) -> str:
    """Name the set of those who have a purpose open, as if it were a segment."""
    return f"{PURPOSE_PREFIX}{purpose}"


@dataclass(frozen=True, slots=True)
class Standing:
    """An active segment: its name, expression, whose word it reads, and how deep it uses others."""

    name: str
    expression: Expression
    sight: Sight
    level: int = 0
    """Of what no segment uses 0; of what stands without being defined `GIVEN`."""


@dataclass(frozen=True)
class ActiveSet:
    """Everything that is evaluated, and the rules that it is evaluated by."""

    rules: Rules
    order: tuple[Standing, ...]
    broken: frozenset[str] = frozenset()
    """Active segments that cannot be evaluated: nobody belongs to them."""

    places: Mapping[str, int] = field(init=False)
    _known: dict[tuple[object, ...], Indexes] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Answers to what is asked with every event."""

    def __post_init__(self) -> None:
        places = {standing.name: index for index, standing in enumerate(self.order)}
        object.__setattr__(self, "places", places)

    def reading_signals(self, names: frozenset[str], source: str) -> Indexes:
        """Name the segments that read a source's signals of any of these names."""
        asked = ("signals", names, source)
        return self._kept(asked, lambda: self._seen(self._by_signal, names, source))

    def reading_traits(self, names: Iterable[str], source: str) -> Indexes:
        """Name the segments that read a source's word on any of these traits."""
        asked = ("traits", frozenset(names), source)
        return self._kept(asked, lambda: self._seen(self._by_trait, {*names, ""}, source))

    @cached_property
    def reading_identifiers(self) -> Indexes:
        """The segments that ask for identifiers."""
        return self._reading(lambda expression: bool(expression.namespaces))

    @cached_property
    def reading_consent(self) -> Indexes:
        """The segments that ask for the standing of a purpose."""
        return self._reading(lambda expression: bool(expression.purposes))

    @cached_property
    def reading_preferences(self) -> Indexes:
        """The segments that ask how people wish to be spoken to."""
        return self._reading(lambda expression: expression.asks_preferences)

    @cached_property
    def everything(self) -> Indexes:
        """All of them."""
        return frozenset(range(len(self.order)))

    @cached_property
    def blank(self) -> Indexes:
        """The segments to which somebody belongs of whom nothing is known."""
        facts = Facts(MemoryTables(), (), self.rules)
        belongs: dict[str, int] = {}
        for index, standing in enumerate(self.order):
            answer = evaluator().answer(
                standing.expression, facts, sight=standing.sight, now=0, belongs=belongs
            )
            if answer.is_in:
                belongs[standing.name] = index
        return frozenset(belongs.values())

    def is_used(self, name: str) -> bool:
        """Say whether an active segment uses one of this name, active or not."""
        return name in self._users

    def closure(self, indexes: Iterable[int]) -> Indexes:
        """Add the segments that use these, however indirectly."""
        asked = frozenset(indexes)
        return self._kept(("closure", asked), lambda: self._closure(asked))

    def _closure(self, indexes: Indexes) -> Indexes:
        waiting = list(indexes)
        found = set(waiting)
        while waiting:
            for dependent in self._dependents.get(waiting.pop(), ()):
                if dependent not in found:
                    found.add(dependent)
                    waiting.append(dependent)
        return frozenset(found)

    def _kept(self, asked: tuple[object, ...], answer: Callable[[], Indexes]) -> Indexes:
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= ANSWERS_KEPT_MAX:
                self._known.clear()
            known = self._known[asked] = answer()
        return known

    def changed_from(self, before: ActiveSet, heard: frozenset[str]) -> Indexes:
        """Name the segments that answer by other rules than by an earlier set."""
        known = {standing.name: standing for standing in before.order}
        mine, theirs = self.rules, before.rules
        is_judged_alike = (mine.sources, mine.purposes) == (theirs.sources, theirs.purposes)

        def answers_alike(standing: Standing) -> bool:
            was = known.get(standing.name)
            if was is None:
                return False
            if is_judged_alike and (
                was is standing or was == standing
            ):  # as most are, whatever changes
                return True
            return before._fingerprint(was, heard) == self._fingerprint(standing, heard)

        return frozenset(i for i, s in enumerate(self.order) if not answers_alike(s))

    def _fingerprint(self, standing: Standing, heard: frozenset[str]) -> tuple[object, ...]:
        sight = heard if standing.sight is None else standing.sight & heard
        expression, sources = standing.expression, self.rules.sources
        reads_traits = expression.traits is None or bool(expression.traits)
        priorities = {name: sources[name].priority for name in sight & sources.keys()}
        judged = {
            name: (self.rules.purposes[name].basis, self.rules.ancestors(name))
            for name in expression.purposes & self.rules.purposes.keys()
        }
        return (expression.source, sight, priorities if reads_traits else {}, judged)

    def _seen(
        self, index: Mapping[str, tuple[int, ...]], names: Iterable[str], source: str
    ) -> Indexes:
        found = {place for name in names for place in index.get(name, ())}
        return frozenset(place for place in found if self._sees(place, source))

    def _sees(self, place: int, source: str) -> bool:
        sight = self.order[place].sight
        return sight is None or source in sight

    @cached_property
    def _by_signal(self) -> Mapping[str, tuple[int, ...]]:
        return _index(standing.expression.signals for standing in self.order)

    @cached_property
    def _by_trait(self) -> Mapping[str, tuple[int, ...]]:
        """By name of trait; under no name, those that read all of them."""
        every = frozenset({""})
        named = (standing.expression.traits for standing in self.order)
        return _index(every if names is None else names for names in named)

    @cached_property
    def _users(self) -> Mapping[str, tuple[int, ...]]:
        return _index(standing.expression.uses for standing in self.order)

    @cached_property
    def _dependents(self) -> Mapping[int, tuple[int, ...]]:
        users = self._users.items()
        return {self.places[name]: places for name, places in users if name in self.places}

    def _reading(self, asks: Callable[[Expression], bool]) -> Indexes:
        return frozenset(i for i, standing in enumerate(self.order) if asks(standing.expression))


def _index(names_of: Iterable[frozenset[str]]) -> Mapping[str, tuple[int, ...]]:
    index: defaultdict[str, list[int]] = defaultdict(list)
    for place, names in enumerate(names_of):
        for name in names:
            index[name].append(place)
    return {name: tuple(places) for name, places in index.items()}
