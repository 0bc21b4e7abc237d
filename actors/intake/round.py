"""One round of intake: messages in, commands out, and what became of each item.

Made by the worker for each pull. Executes wave by wave; parts a command that was refused as a
whole, so that one bad signal does not take the good ones with it; leaves a message alone whose
items could not all be settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from actors.clock import Clock
from actors.intake.cloud_events import Decoded, Rejection, source_of
from actors.intake.counters import IntakeCounters
from actors.intake.grouping import (
    AUTH_ID,
    COMMAND_DEADLINE_SECONDS,
    Planned,
    Ticket,
    plan_waves,
)
from actors.intake.key_order import Key, key_of
from actors.intake.port import CommandRouter, DeadLetters, IntakeMessage, RejectedMessage
from domain.commands import PersonCommand
from domain.errors import Invalid, Kind
from domain.fates import DUPLICATE, GATE_CLOSED, RECORDED
from domain.ids import IdentifierKey
from domain.replies import Done, Failed, SignalResult

EXECUTE_GRACE_SECONDS = 10.0
"""How long after the commands' deadline their replies are still waited for."""
DEAD_LETTERS_AT_ONCE_MAX = 32
DECODED_PER_SLICE = 100
"""After so many messages the loop is given to others."""

Decoder = Callable[[IntakeMessage], list[Decoded | Rejection]]
"""Makes items of a message; never raises, whatever the bytes."""

_FINAL = frozenset({Kind.INVALID, Kind.NOT_FOUND, Kind.REFUSED})
_PARTED = frozenset({Kind.INVALID, Kind.REFUSED})
"""Kinds that may be the fault of one signal of many."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Fate:
    """What is known of a message: items that are to be buried, and whether it must come again."""

    message: IntakeMessage
    items: list[Decoded | Rejection] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    comes_again: bool = False


class Round:
    """Messages that were pulled together, until each of them can be settled."""

    def __init__(
        self,
        messages: Sequence[IntakeMessage],
        router: CommandRouter,
        *,
        decode: Decoder,
        clock: Clock,
        prefix: str,
        counters: IntakeCounters,
        auth_id: str = AUTH_ID,
    ) -> None:
        self._fates = {message.token: _Fate(message) for message in messages}
        self._router = router
        self._decoder = decode
        self._auth_id = auth_id
        self._clock = clock
        self._prefix = prefix
        self._counters = counters
        self._blocked: set[IdentifierKey | Key] = set()

    async def execute(self) -> None:
        """Decode everything, and carry it out in waves."""
        tickets: list[Ticket] = []
        for place, fate in enumerate(self._fates.values()):
            tickets.extend(self._decode(fate))
            if place % DECODED_PER_SLICE == 0:
                await asyncio.sleep(0)
        for wave in plan_waves(tickets):
            await self._execute_wave(wave)

    async def bury(self, dead_letters: DeadLetters) -> list[IntakeMessage]:
        """Keep what cannot be used; give the messages that are settled now.

        A message that comes again buries nothing yet: its items are judged anew. Raises
        `LogUnavailable`.
        """
        finished = [fate for fate in self._fates.values() if not fate.comes_again]
        rejected = [
            self._rejected(fate, item, reason)
            for fate in finished
            for item, reason in fate.rejected.items()
        ]
        for start in range(0, len(rejected), DEAD_LETTERS_AT_ONCE_MAX):
            some = rejected[start : start + DEAD_LETTERS_AT_ONCE_MAX]
            await asyncio.gather(*(dead_letters.put(message) for message in some))
            self._counters.dead_lettered.update(message.reason for message in some)
        return [fate.message for fate in finished]

    def _decode(self, fate: _Fate) -> Iterable[Ticket]:
        """Decode a message; what cannot be used is noted in its fate."""
        message = fate.message
        try:
            source = source_of(message.subject, prefix=self._prefix)
        except Invalid as fault:
            fate.items = [Rejection(fault.reason, message.data, message.headers)]
            fate.rejected[0] = fault.reason
            return
        dated = replace(message, received_at=self._clock.arrival(message.received_at))
        fate.items = self._decoder(dated)
        for place, item in enumerate(fate.items):
            match item:
                case Rejection(reason=reason):
                    fate.rejected[place] = reason
                case Decoded(call=call, size_bytes=size_bytes):
                    order = key_of(message, prefix=self._prefix)
                    yield Ticket(message, place, source, call, size_bytes, order=order)

    async def _execute_wave(self, wave: Sequence[Planned]) -> None:
        """Carry a wave out; what shares an identifier with something that comes again waits too."""
        ready = [planned for planned in wave if self._blocked.isdisjoint(planned.keys)]
        for planned in wave:
            if not self._blocked.isdisjoint(planned.keys):
                self._come_again(planned)
        replies = await self._ask(
            [planned.command(self._clock, self._auth_id) for planned in ready]
        )
        for planned, reply in zip(ready, replies, strict=True):
            match reply:
                case Done():
                    self._note_done(planned, reply)
                case Failed(kind=kind) if kind in _PARTED and len(planned.tickets) > 1:
                    for half in planned.halves():
                        await self._execute_wave([half])
                case Failed(kind=kind) if kind in _FINAL:
                    for ticket in planned.tickets:
                        self._fates[ticket.message.token].rejected[ticket.item] = reply.reason
                case Failed():
                    self._come_again(planned)

    async def _ask(self, commands: list[PersonCommand]) -> Sequence[Done | Failed]:
        if not commands:
            return []
        try:
            async with asyncio.timeout(COMMAND_DEADLINE_SECONDS + EXECUTE_GRACE_SECONDS):
                return await self._router.execute_many(commands)
        except TimeoutError:
            _log.warning("intake_router_silent", commands=len(commands))
            silent = Failed(
                kind=Kind.UNAVAILABLE, reason="ROUTER_SILENT", message="no reply in time"
            )
            return [silent] * len(commands)

    def _come_again(self, planned: Planned) -> None:
        self._blocked |= planned.keys
        for ticket in planned.tickets:
            self._fates[ticket.message.token].comes_again = True

    def _note_done(self, planned: Planned, reply: Done) -> None:
        """Count what became of each ticket."""
        of_each = DUPLICATE if reply.ignored else RECORDED  # where none is answered for by itself
        for place, ticket in enumerate(planned.tickets):
            self._count(ticket, reply.signals[place] if reply.signals else of_each)

    def _count(self, ticket: Ticket, result: SignalResult) -> None:
        match result:
            case "recorded":
                self._counters.recorded += 1
            case "duplicate":
                self._counters.duplicates += 1
            case "declined":
                self._counters.declined[ticket.source, GATE_CLOSED] += 1

    def _rejected(self, fate: _Fate, place: int, reason: str) -> RejectedMessage:
        message, item = fate.message, fate.items[place]
        return RejectedMessage(
            origin=f"{message.stream}{message.sequence}-{place}",
            reason=reason,
            subject=message.subject,
            headers=item.headers,
            data=item.data,
            received_at=message.received_at,
        )
