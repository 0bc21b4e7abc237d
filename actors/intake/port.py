"""What intake needs of the world: a queue of messages, a store of dead letters, and a router.

`worker.py` works on these alone. Every method of the first two may raise
`eventlog.errors.LogUnavailable`: the world is away, nothing is lost, try again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.commands import PersonCommand
from domain.replies import Done, Failed

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class IntakeMessage:
    """A message as the queue delivered it.

    `sequence` is its place in the queue, `deliveries` counts this one (1: the first time),
    `received_at` is when the queue stored it, `token` is what the queue needs to settle it;
    `stream` names where it lies: sequences are that stream's own.
    """

    subject: str
    headers: Mapping[str, str]
    data: bytes
    sequence: int
    deliveries: int
    received_at: datetime
    token: str
    stream: str = ""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How full the queue is: waiting, delivered but not settled, and what it keeps on disk."""

    pending: int
    ack_pending: int
    kept_messages: int
    kept_bytes: int

    @property
    def is_drained(self) -> bool:
        """Say whether every message was settled."""
        return self.pending == 0 and self.ack_pending == 0


class IntakeQueue(Protocol):
    """Messages that stay until they are acknowledged, each delivered at least once."""

    @property
    def ack_wait_seconds(self) -> float:
        """How long a delivered message may stay unsettled before it is delivered again."""

    async def pull(
        self, *, batch_messages_max: int, wait_seconds: float, gather_seconds: float
    ) -> list[IntakeMessage]:
        """Wait for a first message, gather a little more, and give what has come; may be none."""

    async def ack(self, messages: Sequence[IntakeMessage]) -> None:
        """Settle messages: they do not come again."""

    async def nak(self, messages: Sequence[IntakeMessage], *, delay_seconds: float) -> None:
        """Give messages back, to be delivered again after a delay."""

    async def in_progress(self, messages: Sequence[IntakeMessage]) -> None:
        """Ask for as much time again as `ack_wait_seconds`."""

    async def settled_through(self) -> Mapping[str, int]:
        """Say of each stream up to which sequence everything is settled."""

    async def stats(self) -> QueueStats:
        """Ask how full the queue is."""

    async def trim(self, *, settled_before: datetime) -> int:
        """Forget settled messages that were received before a time; give how many went."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """What is to be kept of a message, or of one item of a batch, that cannot be used.

    `origin` names it, so that putting it twice within a short time keeps it once.
    """

    origin: str
    reason: str
    subject: str
    headers: Mapping[str, str]
    data: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as it is kept; `data` is cut where `is_truncated`, `data_bytes` is its size."""

    sequence: int
    reason: str
    subject: str
    headers: Mapping[str, str]
    data: bytes
    data_bytes: int
    is_truncated: bool
    received_at: datetime
    stored_at: datetime


class DeadLetters(Protocol):
    """What could not be used, kept with its reason for a named time."""

    async def put(self, message: RejectedMessage) -> None:
        """Keep a message; when this returns, it is on disk."""

    async def list(
        self, *, after_sequence: int = 0, limit: int = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        """Give dead letters in the order in which they came."""

    async def get(self, sequence: int) -> DeadLetter | None:
        """Give one dead letter, if it is still kept."""


class CommandRouter(Protocol):
    """Carries commands to the hosts of their customers."""

    async def execute_many(self, commands: Sequence[PersonCommand]) -> Sequence[Done | Failed]:
        """Carry out commands, each with its own reply, in the order of the commands."""
