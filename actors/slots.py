"""Which host a customer belongs to: customers hash to a fixed number of slots, slots to hosts.

Placement makes writes fast, never right: the log's expectations do that (R1).
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from domain.ids import RecordId

SLOTS = 256


def slot_of(root: RecordId) -> int:
    """Give the slot of the customer with this root, 0 to `SLOTS` - 1."""
    return crc32(root.encode()) % SLOTS


@dataclass(frozen=True, slots=True)
class Placement:
    """The hosts of a workspace, numbered from 0; slots are dealt to them in turn."""

    hosts: int

    def host_of(self, root: RecordId) -> int:
        """Give the number of the host that a customer belongs to."""
        return slot_of(root) % self.hosts
