"""What expressions read of one customer: its records' rows, decoded once and combined when asked.

A `Sight` says whose word counts (R12). Facts are of one moment of the fold: whoever changes a row
of the customer makes new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic import JsonValue

from domain.consent import ConsentAct
from domain.gate import Gate
from domain.ids import OpenMap, RecordId
from domain.rules import Rules
from projections import consents, preferences, profile
from projections.instants import microseconds, time_of
from projections.rows import Row
from projections.segments.timelines import Series, Sight, Timelines, seen_by
from projections.segments.vocabulary import SignalRead, Value
from projections.tables import ReadTables
from projections.timeline import Occurrence

_Words = Mapping[str, Mapping[str, Row]]
_UNSAID: Mapping[str, Row] = {}


class Facts:
    """What is known of the customer that some records form."""

    def __init__(
        self,
        tables: ReadTables,
        members: tuple[RecordId, ...],
        rules: Rules,
        *,
        timelines: Timelines | None = None,
        are_keys_held: bool = False,
    ) -> None:
        if not are_keys_held:
            tables.need(members)  # all at once, and not in the middle of an expression
        self._tables = tables
        self._members = members
        self._rules = rules
        self._timelines = timelines or Timelines(tables)
        self._series: dict[tuple[str, Sight], Series] = {}
        self._traits: dict[tuple[str, Sight], list[JsonValue]] = {}
        self._read_words: tuple[_Words, ...] | None = None
        self.matches = self._timelines.matches
        self.readings: dict[tuple[SignalRead, Sight], tuple[Value, int | None]] = {}
        """What was read of signals at this moment, and until when it reads so."""

    def series(self, name: str, sight: Sight, *, start: int) -> Series:
        """Give the signals of one name, from an instant on at least."""
        known = self._series.get((name, sight))
        if known is None or start < known.start:
            known = seen_by(self._timelines.of(self._members, name, start=start), sight)
            self._series[name, sight] = known
        return known

    def properties(self, signal: Occurrence) -> OpenMap:
        """Give what a signal carried."""
        return self._timelines.properties(signal)

    def traits(self, names: frozenset[str] | None, sight: Sight) -> dict[str, JsonValue]:
        """Give the traits that are named, or all, as they stand."""
        wanted = frozenset().union(*self._words) if names is None else names
        found: dict[str, JsonValue] = {}
        for name in wanted:
            for value in self._winner(name, sight):
                found[name] = value
        return found

    def is_identified(self, namespace: str, sight: Sight) -> bool:
        """Say whether an identifier of a namespace is known."""
        return any(
            held == namespace and (sight is None or not sight.isdisjoint(sources))
            for member in self._members
            for held, sources in profile.namespaces(self._tables, member)
        )

    def preference(self, channel: str, topic: str = "") -> str | None:
        """Give how often something may come over a channel, as was said last; None: never said."""
        return self._preferences.get((channel, topic))

    def is_open(self, name: str, *, now: int) -> bool:
        """Say whether a purpose is open at an instant; one that is not defined is closed."""
        purpose = self._rules.purposes.get(name)
        if purpose is None:
            return False
        return Gate(self._rules, self._acts, time_of(now)).standing(purpose).is_open

    def open_until(self, name: str, *, now: int) -> int | None:
        """Give the next instant after now at which an agreement to a purpose runs out."""
        ends = (
            microseconds(act.valid_until)
            for acts in self._acts.values()
            for act in acts
            if act.purpose == name and act.valid_until is not None
        )
        return min((end for end in ends if end > now), default=None)

    @cached_property
    def _preferences(self) -> Mapping[tuple[str, str], str]:
        stated = preferences.preferences(self._tables, self._members)
        return {(said.channel, said.topic): said.frequency for said in stated}

    @cached_property
    def _acts(self) -> Mapping[RecordId, tuple[ConsentAct, ...]]:
        return {member: consents.acts(self._tables, member) for member in self._members}

    @property
    def _words(self) -> tuple[_Words, ...]:
        """What was said of each record's traits."""
        if self._read_words is None:  # `cached_property` takes a lock, for longer than the reading
            self._read_words = tuple(profile.words(self._tables, m) for m in self._members)
        return self._read_words

    def _winner(self, name: str, sight: Sight) -> list[JsonValue]:
        """Give the value of a trait that wins; an empty list where nobody says it."""
        if (name, sight) not in self._traits:
            self._traits[name, sight] = self._judge(name, sight)
        return self._traits[name, sight]

    def _judge(self, name: str, sight: Sight) -> list[JsonValue]:
        said = [
            (source, word)
            for words in self._words
            for source, word in words.get(name, _UNSAID).items()
            if sight is None or source in sight
        ]
        if len(said) > 1:
            said = [max(said, key=self._rank)]
        return [word["value"] for _, word in said]

    def _rank(self, said: tuple[str, Row]) -> tuple[int, str, str]:
        source, word = said
        known = self._rules.sources.get(source)
        priority = -1 if known is None else known.priority
        return (priority, word["effective_at"], word["event_id"])
