"""Indexes over traits: for each value a bitmap of the customers who have it, for one purpose each.

A trait is what the purpose sees (R12). An index is made in slices beside the running projector and
kept in step in each transaction; where other rules decide since, it is made anew. Local tables, in
no digest: `trait_index_state`: {next, builds: {purpose/trait: {build, told}}, outdated: [build]};
`trait_index_sets`: build/{value key, ~present, ~pending} -> bitmap; `_values`: build/number -> key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import itemgetter

import orjson
from pyroaring import BitMap

from domain.ids import RecordId
from domain.rules import Rules
from domain.trait_indexes import TraitIndex, living
from projections.rows import Row
from projections.segments.bitmaps import number_of
from projections.segments.facts import Facts
from projections.segments.trait_values import value_key
from projections.sets import SetChange, read_set
from projections.tables import ReadTables, Tables

STATE = "trait_index_state"
SETS = "trait_index_sets"
VALUES = "trait_index_values"
LOCAL_TABLES = (STATE, SETS, VALUES)

CLEARED_KEYS_MAX = 20_000
"""Of an outdated build, between two batches of events."""

PRESENT = b"~present"
PENDING = b"~pending"
_KEY = b"~state"


@dataclass(frozen=True, slots=True)
class Build:
    """One making of an index over a trait for a purpose."""

    number: int
    trait: str
    sources: frozenset[str]
    is_open: bool

    def key_of(self, facts: Facts, index_key: bytes | None) -> bytes | None:
        """Give what stands for the value that a customer has; None where it has none."""
        found = facts.traits(frozenset({self.trait}), self.sources)
        if self.trait not in found or index_key is None:
            return None
        value = found[self.trait]
        return value_key(value, trait=self.trait, index_key=index_key, is_open=self.is_open)


class TraitIndexes:
    """The indexes as one transaction changes them."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._index_key = tables.codec.index_key
        self._waiting: dict[int, BitMap] = {}
        """By build, as far as it was asked for, who is to be indexed."""
        self._changes: defaultdict[bytes, SetChange] = defaultdict(SetChange)

    def follow(self, rules: Rules, *, heard: frozenset[str], everyone: BitMap) -> bool:
        """Keep the indexes that the rules ask for; true if they were not the same."""
        wanted = {} if self._index_key is None else _wanted(rules)
        builds, outdated = dict(self._state["builds"]), list(self._state["outdated"])
        following = self._state["next"]
        for slot, known in self._state["builds"].items():
            if slot not in wanted or not _is_same(known["told"], wanted[slot], heard):
                outdated.append(builds.pop(slot)["build"])
        for slot, told in wanted.items():
            if slot not in builds:
                self._waiting[following] = BitMap(everyone)
                self._changes[_place(following, PENDING)] = SetChange(added=BitMap(everyone))
                builds[slot] = {"build": following}
                following += 1
            builds[slot] = {**builds[slot], "told": told}
        return self._keep_state({"next": following, "builds": builds, "outdated": outdated})

    def update(self, root: RecordId, facts: Facts) -> None:
        """Index a customer as it is now."""
        number = number_of(self._tables, root) if self._builds else None
        if number is not None:
            for build in self._builds:
                self._index(build, number, facts)

    def remove(self, root: RecordId) -> None:
        """Take a customer out of every index."""
        number = number_of(self._tables, root) if self._builds else None
        if number is not None:
            for build in self._builds:
                self._move(build, number, None)
                self._settle(build, number)

    def reads(self, traits: Iterable[str]) -> bool:
        """Say whether any of these traits is indexed."""
        return not self._indexed.isdisjoint(traits)

    def pending(self, customers_max: int) -> list[int]:
        """Name customers who are to be indexed."""
        waiting = BitMap()
        for build in self._builds:
            waiting |= self._waiting_for(build)
        return list(islice(waiting, customers_max))

    def fill(self, number: int, facts: Facts) -> None:
        """Index a customer where that is to be done."""
        for build in self._builds:
            if number in self._waiting_for(build):
                self._index(build, number, facts)

    def clear_outdated(self) -> bool:
        """Drop a part of what is not asked for any more; true if there was any."""
        outdated: list[int] = self._state["outdated"]
        if not outdated:
            return False
        prefix, dropped = f"{outdated[0]}/".encode(), 0
        for table in (VALUES, SETS):
            found = self._tables.scan_stored(table, prefix)
            keys = [key for key, _ in islice(found, CLEARED_KEYS_MAX - dropped)]
            for key in keys:
                self._tables.store(table, key, None)
            dropped += len(keys)
        if dropped < CLEARED_KEYS_MAX:
            self._keep_state({**self._state, "outdated": outdated[1:]})
        return True

    def store(self) -> None:
        """Hand the changed sets to the transaction."""
        for key, change in sorted(self._changes.items(), key=itemgetter(0)):
            self._tables.amend(SETS, key, change)
        self._changes.clear()

    @cached_property
    def _state(self) -> Row:
        return read_state(self._tables.load(STATE, _KEY))

    @cached_property
    def _builds(self) -> tuple[Build, ...]:
        return tuple(_build(slot, known) for slot, known in self._state["builds"].items())

    @cached_property
    def _indexed(self) -> frozenset[str]:
        return frozenset(build.trait for build in self._builds)

    def _keep_state(self, state: Row) -> bool:
        if state == self._state:
            return False
        self._tables.store(STATE, _KEY, orjson.dumps(state))
        for name in ("_state", "_builds", "_indexed"):
            self.__dict__.pop(name, None)
        return True

    def _index(self, build: Build, number: int, facts: Facts) -> None:
        self._move(build, number, build.key_of(facts, self._index_key))
        self._settle(build, number)

    def _move(self, build: Build, number: int, after: bytes | None) -> None:
        """Let a value stand for a customer in place of the one before."""
        place = value_place(build, number)
        before = self._tables.load(VALUES, place)
        if before == after:
            return
        if before is not None:
            self._changes[_place(build.number, before)].discard(number)
        present = self._changes[_place(build.number, PRESENT)]
        if after is None:
            present.discard(number)
        else:
            self._changes[_place(build.number, after)].add(number)
            present.add(number)
        self._tables.store(VALUES, place, after)

    def _settle(self, build: Build, number: int) -> None:
        """Note that a customer is indexed, if it was still to be."""
        waiting = self._waiting_for(build)
        if number in waiting:
            waiting.discard(number)
            self._changes[_place(build.number, PENDING)].discard(number)

    def _waiting_for(self, build: Build) -> BitMap:
        if build.number not in self._waiting:
            place = _place(build.number, PENDING)
            self._waiting[build.number] = members_at(self._tables, place)
        return self._waiting[build.number]


def read_state(stored: bytes | None) -> Row:
    """Read what is stored of all builds."""
    return {"next": 1, "builds": {}, "outdated": []} if stored is None else orjson.loads(stored)


def builds_in_force(tables: ReadTables, rules: Rules) -> dict[str, Build]:
    """Give by purpose and trait the builds that are what the rules ask for, ready or not."""
    wanted = _wanted(rules)
    known = read_state(tables.load(STATE, _KEY))["builds"].items()
    return {slot: _build(slot, told) for slot, told in known if told["told"] == wanted.get(slot)}


def build_for(tables: ReadTables, rules: Rules, trait: str, *, purpose: str) -> Build | None:
    """Give the build that answers for a trait and a purpose; None where none is ready."""
    build = builds_in_force(tables, rules).get(f"{purpose}/{trait}")
    return None if build is None or members_at(tables, set_place(build, PENDING)) else build


def members_at(tables: ReadTables, key: bytes) -> BitMap:
    """Read a set; empty where nobody is in it."""
    return read_set(tables.load(SETS, key))


def set_place(build: Build, value: bytes) -> bytes:
    """Give the place of a set of a build: of a value key, `PRESENT` or `PENDING`."""
    return _place(build.number, value)


def value_place(build: Build, number: int) -> bytes:
    """Give the place of the value key of a customer."""
    return _place(build.number, f"{number:08x}".encode())


def numbers_valued(tables: ReadTables, build: Build) -> Iterator[int]:
    """Yield the numbers of those of whom a value key is kept."""
    prefix = _place(build.number, b"")
    for place, _ in tables.scan_stored(VALUES, prefix):
        yield int(place.removeprefix(prefix), 16)


def _wanted(rules: Rules) -> dict[str, Row]:
    """Say by purpose and trait what an index is to be, and by what rules a trait is judged."""
    return {
        f"{purpose}/{trait}": _told(rules, index, purpose)
        for trait, index in living(rules.trait_indexes).items()
        for purpose in index.purposes
    }


def _told(rules: Rules, index: TraitIndex, purpose: str) -> Row:
    sources = {name: rules.sources[name].priority for name in rules.sources_serving(purpose)}
    return {
        "number": index.number,
        "is_open": index.open_reason is not None,
        "sources": dict(sorted(sources.items())),
    }


def _is_same(before: Row, after: Row, heard: frozenset[str]) -> bool:
    """Say whether an index is what it would be: a source that never spoke decides nothing."""
    return _of_heard(before, heard) == _of_heard(after, heard)


def _of_heard(told: Row, heard: frozenset[str]) -> Row:
    sources: Mapping[str, int] = told["sources"]
    return {**told, "sources": {name: sources[name] for name in sources if name in heard}}


def _build(slot: str, known: Row) -> Build:
    trait, told = slot.partition("/")[2], known["told"]
    return Build(known["build"], trait, frozenset(told["sources"]), told["is_open"])


def _place(build: int, key: bytes) -> bytes:
    return f"{build}/".encode() + key
