"""Identifiers, the edges that make records one customer, and the separations that keep them apart.

Values arrive normalised, with their key (an HMAC) beside them: the domain compares keys only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from domain.ids import IdentifierKey, MergeId, Name, RecordId, UuidText


class Identifier(BaseModel):
    """A normalised value in a namespace, with the key that stands for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Name
    value: str
    key: IdentifierKey


class Tombstone(NamedTuple):
    """What is left of an identifier whose holder was erased: the record, and since when."""

    record_id: RecordId
    revision: int


class PastHolder(BaseModel):
    """A record that held an identifier not long ago, and remembers what came with it then.

    `until` is when it let go, in milliseconds since 1970, by the clock that dates ids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: IdentifierKey
    record_id: UuidText
    until: int


class LeftOutReason(StrEnum):
    """Why an identifier that came with a command was not used."""

    BLOCKED = "BLOCKED"
    ERASED = "ERASED"
    SEPARATED = "SEPARATED"
    TOO_MANY_VALUES = "TOO_MANY_VALUES"
    TOO_MANY_RECORDS = "TOO_MANY_RECORDS"
    TOO_MANY_IDENTIFIERS = "TOO_MANY_IDENTIFIERS"


class LeftOut(BaseModel):
    """An identifier that was not used, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: IdentifierKey
    reason: LeftOutReason


class Edge(BaseModel):
    """A merge: the two records whose identifiers met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merge_id: MergeId
    older: UuidText
    newer: UuidText


class Separation(BaseModel):
    """Two records that no customer may hold both, as an undo left them.

    `lifted_by` names the live merges that stand over it: the explicit ones, and those made while it
    was lifted. Without any it is in force.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    one: UuidText
    other: UuidText
    lifted_by: tuple[MergeId, ...] = ()

    @property
    def is_in_force(self) -> bool:
        """Whether it keeps its records apart now."""
        return not self.lifted_by


Pairs = Mapping[tuple[str, str], Separation]
"""Separations by their two records, the older one first."""


def pairs_of(separations: Iterable[Separation]) -> dict[tuple[str, str], Separation]:
    """Join what several customers know of their separations.

    What one of them took back stays taken back: a copy on the other side may be older.
    """
    pairs: dict[tuple[str, str], Separation] = {}
    for separation in separations:
        place = (separation.one, separation.other)
        known = pairs.get(place)
        if known is not None:
            both = tuple(m for m in known.lifted_by if m in separation.lifted_by)
            separation = separation.model_copy(update={"lifted_by": both})  # noqa: PLW2901 # joined
        pairs[place] = separation
    return pairs


def root_of(record_ids: Iterable[RecordId]) -> RecordId:
    """Give the id of the customer that these records form: the oldest one's."""
    return min(record_ids)
