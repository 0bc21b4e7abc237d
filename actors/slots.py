"""Which host a customer belongs to: customers hash to a fixed number of slots, slots to hosts.

Placement makes writes fast, never right: the log's expectations do that (R1).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from zlib import crc32

from domain.ids import RecordId

SLOTS = 256


def slot_of(root: RecordId) -> int:
    """Give the slot of the customer with this root, 0 to `SLOTS` - 1."""
    return crc32(root.encode()) % SLOTS


@dataclass(frozen=True, slots=True)
class Placement:
    """The hosts of a workspace, numbered from 0; slots are dealt to them in turn.

    The slots of a host that is away are dealt among the others until it is back.
    """

    hosts: int

    def host_of(self, root: RecordId, *, away: Collection[int] = ()) -> int:
        """Give the number of the host that a customer belongs to, with these hosts away."""
        slot = slot_of(root)
        host = slot % self.hosts
        if host not in away:
            return host
        present = [number for number in range(self.hosts) if number not in away]
        return present[slot // self.hosts % len(present)] if present else host
