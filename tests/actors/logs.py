"""Logs in memory for tests of the hosts: watched, slow, out of shape, or behind their leader."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import replace

from domain.ids import Stream
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Attempt, Conflict, Entry, Head, Outcome, Shape


class WatchedLog(MemoryEventLog):
    """Remember every attempt, and let the next ones meet a conflict or wait at the gate."""

    def __init__(self, workspace: str = "test") -> None:
        super().__init__(workspace)
        self.attempts: list[Attempt] = []
        self.conflicts = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        """Store an attempt, unless it is to meet a conflict."""
        self.attempts.append(attempt)
        await self.gate.wait()
        if self.conflicts:
            self.conflicts -= 1
            return Conflict()
        return await super().append(attempt, timeout_seconds=timeout_seconds)

    async def shape(self) -> Shape:
        """Give the shape, with what a test says is lost."""
        return replace(await super().shape(), lost=self.lost)

    lost = 0


class JitteryLog(MemoryEventLog):
    """Let other work run before and after every request, by a seeded die, and lose answers."""

    def __init__(self, seed: int, *, trouble: float = 0.0) -> None:
        super().__init__("test")
        self._die = random.Random(seed)
        self.trouble = trouble

    async def _pause(self) -> None:
        for _ in range(self._die.randrange(6)):
            await asyncio.sleep(0)

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        """Store an attempt, sometimes without saying so."""
        await self._pause()
        if self._die.random() < self.trouble:
            match self._die.randrange(3):
                case 0:
                    self.lose_acknowledgements(1)
                case 1:
                    self.answer_unknown(1, stored=True)
                case _:
                    self.answer_unknown(1, stored=False)
        outcome = await super().append(attempt, timeout_seconds=timeout_seconds)
        await self._pause()
        return outcome

    async def load_many(
        self,
        streams: Mapping[Stream, Head],
        *,
        concurrency: int = 32,
        recheck: Collection[Stream] = (),
    ) -> dict[Stream, list[Entry]]:
        """Load streams one by one, with pauses: what was loaded first may be old by the end."""
        found: dict[Stream, list[Entry]] = {}
        for stream, head in streams.items():
            await self._pause()
            found |= await super().load_many({stream: head}, recheck={stream} & {*recheck})
        return found


class LaggingLog(MemoryEventLog):
    """Read streams from a replica that has not heard of anything after a revision."""

    def __init__(self) -> None:
        super().__init__("test")
        self.heard_revision: int | None = None

    async def load(self, stream: Stream, *, after: Head = EMPTY) -> list[Entry]:
        """Read a stream as far as the replica has it."""
        entries = await super().load(stream, after=after)
        heard = self.heard_revision
        return [e for e in entries if heard is None or e.revision <= heard]
