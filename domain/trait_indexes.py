"""Indexes over traits as the workspace's stream tells them: declared on demand, dropped.

An index lets audiences be counted by what a trait is without a look at anybody. Each is declared
for the purposes that may ask it. Its values are personal unless `open_reason` says why not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from domain.commands import DropTraitIndex, IndexTrait
from domain.errors import NotFound, Refused
from domain.event import Event
from domain.workspace_events import TraitIndexDropped, TraitIndexed

TRAIT_INDEXES_MAX = 64


@dataclass(frozen=True, slots=True)
class TraitIndex:
    """An index over one trait; numbered from 1, so that each declaration is made anew."""

    trait: str
    number: int
    purposes: tuple[str, ...]
    open_reason: str | None
    is_dropped: bool = False


def living(indexes: Mapping[str, TraitIndex]) -> dict[str, TraitIndex]:
    """Give the indexes that were not dropped."""
    return {trait: index for trait, index in indexes.items() if not index.is_dropped}


def evolve_trait_indexes(
    indexes: Mapping[str, TraitIndex], body: TraitIndexed | TraitIndexDropped
) -> Mapping[str, TraitIndex]:
    """Apply an event; what is not about a known index changes nothing."""
    match body:
        case TraitIndexed():
            index = TraitIndex(body.trait, body.number, body.purposes, body.open_reason)
            return {**indexes, body.trait: index}
        case TraitIndexDropped(trait=trait) if trait in indexes:
            return {**indexes, trait: replace(indexes[trait], is_dropped=True)}
        case _:
            return indexes


def decide_trait_index(
    indexes: Mapping[str, TraitIndex],
    command: IndexTrait | DropTraitIndex,
    *,
    purposes: Collection[str],
) -> list[Event]:
    """Decide a change of indexes; nothing where it would change nothing."""
    match command:
        case IndexTrait():
            return _index(indexes, command, purposes)
        case DropTraitIndex(trait=trait):
            if trait not in indexes:
                raise NotFound("TRAIT_NOT_INDEXED", "there is no index over this trait")
            return [] if indexes[trait].is_dropped else [TraitIndexDropped(trait=trait)]


def _index(
    indexes: Mapping[str, TraitIndex], command: IndexTrait, purposes: Collection[str]
) -> list[Event]:
    if not set(command.purposes) <= set(purposes):
        raise NotFound("UNKNOWN_PURPOSE", "a purpose of the index is not defined")
    known = indexes.get(command.trait)
    is_new = known is None or known.is_dropped
    if is_new and len(living(indexes)) >= TRAIT_INDEXES_MAX:
        raise Refused("TOO_MANY_INDEXES", f"a workspace has at most {TRAIT_INDEXES_MAX} indexes")
    indexed = TraitIndexed(
        trait=command.trait,
        number=known.number + 1 if known else 1,
        purposes=tuple(sorted(set(command.purposes))),
        open_reason=command.open_reason,
    )
    if known is not None and not known.is_dropped:
        said = (known.purposes, known.open_reason)
        if said == (indexed.purposes, indexed.open_reason):
            return []
    return [indexed]
