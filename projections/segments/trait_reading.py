"""Answers of the indexes over traits: who has a trait, who has a value, who is within a range."""

from __future__ import annotations

from pydantic import JsonValue
from pyroaring import BitMap

from domain.rules import Rules
from domain.trait_indexes import TraitIndex, living
from projections.segments.audience_parts import OfTrait, TraitIs, TraitKnown, TraitWithin
from projections.segments.errors import IndexNotReady, RangeTooWide, TraitNotIndexed, TraitNotOpen
from projections.segments.trait_indexes import (
    PRESENT,
    SETS,
    Build,
    build_for,
    members_at,
    set_place,
)
from projections.segments.trait_values import (
    Range,
    is_behind,
    is_within,
    range_start,
    value_key,
)
from projections.sets import read_set
from projections.tables import ReadTables

RANGE_VALUES_MAX = 10_000
"""Different values within a range that one question may join."""


def ready_purposes(tables: ReadTables, rules: Rules, index: TraitIndex) -> list[str]:
    """Name the purposes for which an index can be asked."""
    return [
        p for p in index.purposes if build_for(tables, rules, index.trait, purpose=p) is not None
    ]


def check_trait(tables: ReadTables, rules: Rules, part: OfTrait, *, purpose: str) -> None:
    """Require an index that answers a part of an audience for a purpose.

    Raises `TraitNotIndexed`, `TraitNotOpen` and `IndexNotReady`.
    """
    index = _index(rules, part.trait, purpose)
    if isinstance(part, TraitWithin) and index.open_reason is None:
        raise TraitNotOpen("the trait is personal: its index answers equality only")
    _build(tables, rules, part.trait, purpose)


def trait_members(tables: ReadTables, rules: Rules, part: OfTrait, *, purpose: str) -> BitMap:
    """Give the numbers of those whom a checked part means. Raises `RangeTooWide`."""
    build = _build(tables, rules, part.trait, purpose)
    match part:
        case TraitKnown():
            return members_at(tables, set_place(build, PRESENT))
        case TraitIs(values=values):
            keys = {_key(tables, build, value) for value in values}
            return BitMap.union(BitMap(), *(members_at(tables, set_place(build, k)) for k in keys))
        case TraitWithin(within=within):
            return _between(tables, build, within)


def _index(rules: Rules, trait: str, purpose: str) -> TraitIndex:
    index = living(rules.trait_indexes).get(trait)
    if index is None or purpose not in index.purposes:
        raise TraitNotIndexed("there is no index over this trait for this purpose")
    return index


def _build(tables: ReadTables, rules: Rules, trait: str, purpose: str) -> Build:
    build = build_for(tables, rules, trait, purpose=purpose)
    if build is None:
        raise IndexNotReady("the index over this trait is being made: try again")
    return build


def _key(tables: ReadTables, build: Build, value: JsonValue) -> bytes:
    index_key = tables.codec.index_key
    if index_key is None:
        raise IndexNotReady("this process was not given the key of the indexes")
    return value_key(value, trait=build.trait, index_key=index_key, is_open=build.is_open)


def _between(tables: ReadTables, build: Build, within: Range) -> BitMap:
    found, values = BitMap(), 0
    prefix = set_place(build, b"")
    start = set_place(build, range_start(within))
    for place, stored in tables.scan_stored(SETS, prefix, start=start):
        key = place[len(prefix) :]
        if is_behind(key, within):
            break
        if is_within(key, within):
            found |= read_set(stored)
            values += 1
            if values > RANGE_VALUES_MAX:
                message = f"more than {RANGE_VALUES_MAX} values are within the range"
                raise RangeTooWide(f"{message}: define a segment")
    return found
