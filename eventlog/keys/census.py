"""A count of one family's keys, by which an operator sees whether a rotation is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Census(NamedTuple):
    """How many keys each version of the workspace key wraps.

    New ones are wrapped under `active`; a rotation goes to `newest`, of those at hand.
    """

    active: int
    newest: int
    by_version: Mapping[int, int]
    destroyed: int

    @property
    def rotation_is_due(self) -> bool:
        """Whether anything needs an older version than the newest."""
        return any(version < self.newest for version in (self.active, *self.by_version))
