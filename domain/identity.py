"""Identifiers, their namespaces and strength, and the edges that make records one customer.

Values arrive normalised, with their key (an HMAC) beside them: the domain compares keys only.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from domain.ids import IdentifierKey, MergeId, Name, RecordId, UuidText

NAMESPACES_BY_STRENGTH = (
    "user_id",
    "email",
    "phone",
    "loyalty_id",
    "device_id",
    "anonymous_id",
)
"""The namespaces of a new workspace, the strongest first."""

_RANK = {namespace: rank for rank, namespace in enumerate(NAMESPACES_BY_STRENGTH)}


class Identifier(BaseModel):
    """A normalised value in a namespace, with the key that stands for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Name
    value: str
    key: IdentifierKey


class Edge(BaseModel):
    """A merge: the two records whose identifiers met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merge_id: MergeId
    older: UuidText
    newer: UuidText


def strength(identifier: Identifier) -> tuple[int, str]:
    """Order identifiers, the strongest first; ties by key, so that order never depends on input."""
    return (_RANK.get(identifier.namespace, len(_RANK)), identifier.key)


def root_of(record_ids: Iterable[RecordId]) -> RecordId:
    """Give the id of the customer that these records form: the oldest one's."""
    return min(record_ids)
