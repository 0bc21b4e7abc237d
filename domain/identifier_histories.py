"""What the streams of identifiers tell of those that nobody holds.

Who holds an identifier, the records say; what became of it before, only its own stream does. Given
to `decide` beside the customers: by hosts as the log told it, with what a turn left pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.identity import Tombstone
from domain.ids import CommandId, IdentifierKey
from domain.past_holders import Freed
from domain.record import RememberedCommand


@dataclass(frozen=True, slots=True)
class IdentifierHistories:
    """Of the identifiers that a command came with, and of any others.

    `tombstoned` are those of people who were erased, `freed` says who let go of an identifier,
    `readmitted` which commands let one be used again: no record remembers them.
    """

    tombstoned: Mapping[IdentifierKey, Tombstone] = field(default_factory=dict)
    freed: Freed = field(default_factory=dict)
    readmitted: Mapping[CommandId, RememberedCommand] = field(default_factory=dict)


NO_HISTORIES = IdentifierHistories()
