"""Audiences: any expression of segments over bitmaps, always within a purpose; no row is touched.

An audience names its purpose and holds only people for whom it is open, and only segments that
serve it may decide (R12); one with a stated exception, as a suppression list has, may as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

from pyroaring import BitMap

from domain.rules import Rules
from domain.segments import Segment
from projections.rules import read_rules
from projections.segments.active import EVERYONE, PURPOSE_PREFIX
from projections.segments.bitmaps import MEMBERS, read_version
from projections.segments.definitions import read_segments, rules_digest
from projections.segments.errors import AudienceTooLarge, PurposeNotServed, UnknownSegment
from projections.tables import ReadTables

SETS_CACHED_MAX = 256
AUDIENCE_PARTS_MAX = 256


@dataclass(frozen=True, slots=True)
class InSegment:
    """Who belongs to a segment."""

    segment: str


@dataclass(frozen=True, slots=True)
class Having:
    """Who has a purpose open."""

    purpose: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """Who is in each of these; everybody, if there are none."""

    parts: tuple[Audience, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Who is in at least one of these."""

    parts: tuple[Audience, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Who is in none of these."""

    parts: tuple[Audience, ...]


Audience = InSegment | Having | AllOf | AnyOf | NoneOf


class Sets:
    """The sets of one read side, kept decoded for as long as they do not change."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, BitMap]] = OrderedDict()
        self._rules: tuple[str, Rules, dict[str, Segment]] | None = None

    def rules(self, tables: ReadTables) -> tuple[Rules, dict[str, Segment]]:
        """Give the rules and the segments, read anew only after the workspace said something."""
        digest = rules_digest(tables)
        if self._rules is None or self._rules[0] != digest:
            self._rules = (digest, read_rules(tables), read_segments(tables))
        return self._rules[1:]

    def known_rules(self) -> tuple[Rules, dict[str, Segment]]:
        """Give what `rules` gave last: an audience is resolved by one reading of them."""
        if self._rules is None:
            raise RuntimeError("the rules were not read")
        return self._rules[1:]

    def read(self, tables: ReadTables, name: str) -> BitMap:
        """Give a set; it is not to be changed."""
        version = read_version(tables, name)
        kept = self._kept.get(name)
        if kept is not None and kept[0] == version:
            self._kept.move_to_end(name)
            return kept[1]
        stored = tables.load(MEMBERS, name.encode())
        found = BitMap() if stored is None else BitMap.deserialize(stored)
        self._kept[name] = (version, found)
        self._kept.move_to_end(name)
        while len(self._kept) > SETS_CACHED_MAX:
            self._kept.popitem(last=False)
        return found


def count_audience(tables: ReadTables, sets: Sets, audience: Audience, *, purpose: str) -> int:
    """Count an audience; raises `NotFound`, `UnknownSegment`, `PurposeNotServed`, and more."""
    _check_size(audience)
    sets.rules(tables)
    found = _resolve(tables, sets, audience, purpose)
    return int(found.intersection_cardinality(_having(tables, sets, purpose)))


def audience_members(tables: ReadTables, sets: Sets, audience: Audience, *, purpose: str) -> BitMap:
    """Give the numbers of an audience's customers. Raises as `count_audience`."""
    _check_size(audience)
    sets.rules(tables)
    found = _resolve(tables, sets, audience, purpose)
    return found & _having(tables, sets, purpose)


def _check_size(audience: Audience) -> None:
    waiting: list[Audience] = [audience]
    for _ in range(AUDIENCE_PARTS_MAX):
        if not waiting:
            return
        part = waiting.pop()
        if isinstance(part, AllOf | AnyOf | NoneOf):
            waiting += part.parts
    if waiting:
        raise AudienceTooLarge(f"an audience has at most {AUDIENCE_PARTS_MAX} parts")


def _resolve(tables: ReadTables, sets: Sets, audience: Audience, purpose: str) -> BitMap:
    match audience:
        case InSegment(segment=name):
            _check_serves(sets, name, purpose=purpose)
            return sets.read(tables, name)
        case Having(purpose=name):
            return _having(tables, sets, name)
        case AllOf(parts=parts):
            everyone = sets.read(tables, EVERYONE)
            found = _each(tables, sets, parts, purpose)
            return reduce(and_, found) if found else everyone
        case AnyOf(parts=parts):
            return reduce(or_, _each(tables, sets, parts, purpose), BitMap())
        case NoneOf(parts=parts):
            excluded = reduce(or_, _each(tables, sets, parts, purpose), BitMap())
            return sets.read(tables, EVERYONE) - excluded


def _each(tables: ReadTables, sets: Sets, parts: Sequence[Audience], purpose: str) -> list[BitMap]:
    return [_resolve(tables, sets, part, purpose) for part in parts]


def _having(tables: ReadTables, sets: Sets, purpose: str) -> BitMap:
    rules, _ = sets.known_rules()
    rules.purpose(purpose)
    return sets.read(tables, f"{PURPOSE_PREFIX}{purpose}")


def check_serves(
    tables: ReadTables, sets: Sets, name: str, *, purpose: str, may_be_archived: bool = False
) -> None:
    """Require that a segment is active and may be used for a purpose (R12).

    Raises `NotFound`, `UnknownSegment` and `PurposeNotServed`.
    """
    rules, _ = sets.rules(tables)
    rules.purpose(purpose)
    _check_serves(sets, name, purpose=purpose, may_be_archived=may_be_archived)


def _check_serves(sets: Sets, name: str, *, purpose: str, may_be_archived: bool = False) -> None:
    _, segments = sets.known_rules()
    segment = segments.get(name)
    definition = segment.active if segment else None
    if segment is not None and segment.is_archived and may_be_archived:
        definition = segment.latest
    if definition is None:
        raise UnknownSegment("no active segment has this name")
    if definition.exception is None and purpose not in definition.purposes:
        raise PurposeNotServed("the segment does not serve this purpose")
