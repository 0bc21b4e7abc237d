"""Audiences: any expression of segments, purposes and indexed traits over bitmaps; no row is read.

An audience names its purpose and holds only people for whom it is open, and only segments that
serve it may decide (R12); one with a stated exception, as a suppression list has, may as well. A
trait is what the purpose sees of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from operator import and_, or_

from pyroaring import BitMap

from domain.errors import DomainError
from domain.rules import Rules
from domain.segments import Definition, Segment
from projections.errors import ReadSideNotReady
from projections.instants import microseconds
from projections.rules import read_rules
from projections.segments.active import EVERYONE, purpose_set
from projections.segments.audience_parts import (
    AllOf,
    AnyOf,
    Audience,
    Having,
    InSegment,
    NoneOf,
    OfTrait,
    parts_of,
)
from projections.segments.bitmaps import number_of, read_bitmap, read_version
from projections.segments.definitions import read_segments, rules_digest
from projections.segments.errors import (
    AudienceFault,
    InvalidAudience,
    PurposeNotServed,
    SegmentError,
    UnknownSegment,
)
from projections.segments.membership import read_membership
from projections.segments.timers import due_until
from projections.segments.trait_reading import check_trait, trait_members
from projections.tables import ReadTables

OVERDUE_MAX = 10_000
"""Of whom something is due that the log's clock has not come to: no more are looked at."""

SETS_CACHED_MAX = 256


class Sets:
    """The sets of one read side, kept decoded for as long as they do not change."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[bytes, BitMap]] = OrderedDict()
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
        found = read_bitmap(tables, name)
        self._kept[name] = (version, found)
        self._kept.move_to_end(name)
        while len(self._kept) > SETS_CACHED_MAX:
            self._kept.popitem(last=False)
        return found


def count_audience(
    tables: ReadTables,
    sets: Sets,
    audience: Audience,
    *,
    purpose: str,
    now: datetime | None = None,
) -> int:
    """Count an audience; raises `NotFound` for the purpose, `InvalidAudience` for its parts.

    Nobody is in it for whom the purpose is closed `now`, though the log's clock shows less.
    """
    found, having = _found(tables, sets, audience, purpose)
    lapsed = _lapsed(tables, purpose, now)
    return int(found.intersection_cardinality(having - lapsed if lapsed else having))


def audience_members(
    tables: ReadTables,
    sets: Sets,
    audience: Audience,
    *,
    purpose: str,
    now: datetime | None = None,
) -> BitMap:
    """Give the numbers of an audience's customers. Raises as `count_audience`."""
    found, having = _found(tables, sets, audience, purpose)
    return (found & having) - _lapsed(tables, purpose, now)


def _lapsed(tables: ReadTables, purpose: str, now: datetime | None) -> BitMap:
    """Name who had the purpose open up to an instant that the log's clock has not come to.

    Raises `ReadSideNotReady` where it is too far behind.
    """
    lapsed, place = BitMap(), purpose_set(purpose)
    if now is None:
        return lapsed
    until = microseconds(now)
    for looked_at, root in enumerate(due_until(tables, until)):
        if looked_at == OVERDUE_MAX:
            raise ReadSideNotReady("the read side is behind: it cannot say who still agrees")
        row, number = read_membership(tables, root), number_of(tables, root)
        if row is not None and number is not None and row["due"].get(place, until + 1) <= until:
            lapsed.add(number)
    return lapsed


def _found(
    tables: ReadTables, sets: Sets, audience: Audience, purpose: str
) -> tuple[BitMap, BitMap]:
    sets.rules(tables)
    having = _having(tables, sets, purpose)
    _check(tables, sets, audience, purpose)
    return _resolve(tables, sets, audience, purpose), having


def _check(tables: ReadTables, sets: Sets, audience: Audience, purpose: str) -> None:
    """Require that every part can be answered for the purpose; names each that cannot."""
    faults = []
    for part in parts_of(audience):
        try:
            _check_part(tables, sets, part, purpose)
        except (SegmentError, DomainError) as error:
            faults.append(AudienceFault(part.place, error))
    if faults:
        raise InvalidAudience(tuple(faults))


def _check_part(tables: ReadTables, sets: Sets, part: Audience, purpose: str) -> None:
    match part:
        case InSegment(segment=name):
            _check_serves(_definition(sets, name), purpose, may_be_exception=True)
        case Having(purpose=name):
            sets.known_rules()[0].purpose(name)
        case AllOf() | AnyOf() | NoneOf():
            pass
        case _:
            check_trait(tables, sets.known_rules()[0], part, purpose=purpose)


def _resolve(tables: ReadTables, sets: Sets, audience: Audience, purpose: str) -> BitMap:
    match audience:
        case InSegment(segment=name):
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
        case _:
            return _having_trait(tables, sets, audience, purpose)


def _each(tables: ReadTables, sets: Sets, parts: Sequence[Audience], purpose: str) -> list[BitMap]:
    return [_resolve(tables, sets, part, purpose) for part in parts]


def _having(tables: ReadTables, sets: Sets, purpose: str) -> BitMap:
    rules, _ = sets.known_rules()
    rules.purpose(purpose)
    return sets.read(tables, purpose_set(purpose))


def _having_trait(tables: ReadTables, sets: Sets, part: OfTrait, purpose: str) -> BitMap:
    try:
        return trait_members(tables, sets.known_rules()[0], part, purpose=purpose)
    except SegmentError as error:
        raise InvalidAudience((AudienceFault(part.place, error),)) from error


def check_serves(
    tables: ReadTables,
    sets: Sets,
    name: str,
    *,
    purpose: str,
    may_be_archived: bool = False,
    may_be_exception: bool = False,
) -> None:
    """Require that a segment is active and serves a purpose, or is an exception if it may (R12).

    Raises `NotFound`, `UnknownSegment` and `PurposeNotServed`.
    """
    rules, _ = sets.rules(tables)
    rules.purpose(purpose)
    definition = _definition(sets, name, may_be_archived=may_be_archived)
    _check_serves(definition, purpose, may_be_exception=may_be_exception)


def _definition(sets: Sets, name: str, *, may_be_archived: bool = False) -> Definition:
    _, segments = sets.known_rules()
    segment = segments.get(name)
    definition = segment.active if segment else None
    if segment is not None and segment.is_archived and may_be_archived:
        definition = segment.latest
    if definition is None:
        raise UnknownSegment("no active segment has this name")
    return definition


def _check_serves(definition: Definition, purpose: str, *, may_be_exception: bool) -> None:
    if may_be_exception and definition.exception is not None:
        return
    if purpose not in definition.purposes:
        raise PurposeNotServed("the segment does not serve this purpose")
