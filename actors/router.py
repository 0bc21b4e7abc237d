"""The way of a command to its customer's host and of the reply back, on one of two lanes.

A single command goes at once on the lane of commands; many go in bulk: while calls to a host are in
flight, what arrives gathers and goes with the next one. What was on its way to a host that died is
sent again with the same command ids until the commands' deadlines: they are idempotent.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from actors.clock import Clock
from actors.directory import Directory
from actors.faults import describe
from actors.lanes import HostTable
from actors.messages import (
    COMMANDS_PER_CALL_MAX,
    HostLink,
    HostUnavailable,
    Routed,
    decode_replies,
    encode_commands,
    failed,
)
from actors.slots import Placement
from domain.commands import (
    CheckConsent,
    EraseCustomer,
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    RecordSignals,
    SetTraits,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.errors import Kind
from domain.replies import Done, Failed, Moved, Reply
from eventlog.errors import LogError
from eventlog.port import EventLog

COMMANDS_WAITING_MAX = 50_000
REDIRECTS_MAX = 8
RETRY_AFTER_SECONDS = 0.1
CALL_OVERRUN = timedelta(seconds=10)
"""How long after its commands' deadlines a call may still tell what became of them."""

UNSETTLED = frozenset({Kind.UNAVAILABLE, Kind.CONFLICT})
"""Failures that say nothing of what an earlier call with the same command id has stored."""

_TOO_LATE = failed(Kind.UNAVAILABLE, "DEADLINE_EXCEEDED", "the deadline has passed")
_LOST = failed(
    Kind.UNKNOWN_OUTCOME,
    "UNKNOWN_OUTCOME",
    "the host was lost, and none said what became of the command",
)
_log = structlog.get_logger()


Answer = Reply | HostUnavailable
"""What is known of a command after one try."""


@dataclass(slots=True)
class _Waiting:
    """Commands that were sent together and are answered together."""

    batch: Sequence[Routed]
    answers: asyncio.Future[Sequence[Answer]]


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How many calls to one host are in flight at most, and when one goes out beside another.

    That is when so many commands wait, or when they have waited for so long. Each call costs both
    ends something, and the fewer are under way in a host, the sooner it sees to a command.
    """

    in_flight_max: int
    crowd_commands_min: int = 1
    gather_seconds: float = 0.0


BULK_CALLS = CallLimits(in_flight_max=2, crowd_commands_min=128, gather_seconds=0.1)
COMMAND_CALLS = CallLimits(in_flight_max=256)


class HostChannel:
    """Gather commands for one host, and keep so many calls to it in flight."""

    def __init__(self, link: HostLink, host: int, *, limits: CallLimits) -> None:
        self._link = link
        self._host = host
        self._limits = limits
        self._gathering: asyncio.TimerHandle | None = None
        self._waiting: deque[_Waiting] = deque()
        self._commands_waiting = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def send(self, batch: Sequence[Routed]) -> Sequence[Answer]:
        """Send at most `COMMANDS_PER_CALL_MAX` commands, with others that wait; never raises."""
        if self._commands_waiting + len(batch) > COMMANDS_WAITING_MAX:
            overloaded = failed(
                Kind.UNAVAILABLE, "HOST_OVERLOADED", "too many commands are waiting"
            )
            return [overloaded] * len(batch)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(batch, loop.create_future())
        self._waiting.append(waiting)
        self._commands_waiting += len(batch)
        loop.call_soon(self._call_next)
        return await waiting.answers

    def _call_next(self) -> None:
        while self._waiting and len(self._calls) < self._limits.in_flight_max:
            if self._calls and self._commands_waiting < self._limits.crowd_commands_min:
                self._gather()
                return
            self._call_now()

    def _gather(self) -> None:
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(self._limits.gather_seconds, self._end_gathering)

    def _end_gathering(self) -> None:
        self._gathering = None
        if self._waiting and len(self._calls) < self._limits.in_flight_max:
            self._call_now()

    def _call_now(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        call = asyncio.create_task(self._call(self._take()))
        call.add_done_callback(self._called)
        self._calls.add(call)

    def _take(self) -> list[_Waiting]:
        """Take what fits into one call, in order."""
        taken: list[_Waiting] = []
        room = COMMANDS_PER_CALL_MAX
        while self._waiting and len(self._waiting[0].batch) <= room:
            taken.append(self._waiting.popleft())
            room -= len(taken[-1].batch)
        self._commands_waiting -= COMMANDS_PER_CALL_MAX - room
        return taken

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._call_next()

    async def _call(self, taken: list[_Waiting]) -> None:
        batch = [routed for waiting in taken for routed in waiting.batch]
        answers: Sequence[Answer]
        try:
            sent = encode_commands(batch)
            deadline = max(routed.command.deadline for routed in batch) + CALL_OVERRUN
            slot = batch[0].slot or 0
            received = await self._link.execute(self._host, sent, slot=slot, deadline=deadline)
            answers = decode_replies(received)
        except HostUnavailable as error:
            answers = [error] * len(batch)
        except Exception as error:  # noqa: BLE001  # or the callers would wait for ever
            _log.error("call_failed", host=self._host, **describe(error))
            answers = [HostUnavailable()] * len(batch)
        start = 0
        for waiting in taken:
            end = start + len(waiting.batch)
            if not waiting.answers.done():
                waiting.answers.set_result(answers[start:end])
            start = end


class CommandRouter:
    """Route commands of one workspace; one instance a process.

    `link` carries bulk, `commands` single commands; without it, those travel with the others.
    `table` tells which hosts live; without it, all are thought to.
    """

    def __init__(
        self,
        log: EventLog,
        link: HostLink,
        *,
        placement: Placement,
        clock: Clock,
        commands: HostLink | None = None,
        table: HostTable | None = None,
    ) -> None:
        self._directory = Directory(log)
        self._placement = placement
        self._clock = clock
        self._table = table
        self._bulk = _channels(link, placement, BULK_CALLS)
        self._commands = self._bulk
        if commands is not None:
            self._commands = _channels(commands, placement, COMMAND_CALLS)

    async def execute(self, command: PersonCommand) -> Done | Failed:
        """Execute one command, ahead of bulk. Never raises."""
        return (await self._execute([command], self._commands))[0]

    async def execute_many(self, commands: Sequence[PersonCommand]) -> list[Done | Failed]:
        """Execute commands in bulk; replies are aligned with them. Never raises."""
        return await self._execute(commands, self._bulk)

    async def _execute(
        self, commands: Sequence[PersonCommand], channels: Sequence[HostChannel]
    ) -> list[Done | Failed]:
        try:
            await self._directory.look_up(commands)
        except LogError as error:
            return [failed(Kind.UNAVAILABLE, error.reason, error.message)] * len(commands)
        answers = await self._try(commands, channels)
        settled = {
            place: self._until_settled(commands[place], answer, channels)
            for place, answer in enumerate(answers)
            if not isinstance(answer, Done)
        }
        others = dict(zip(settled, await asyncio.gather(*settled.values()), strict=True))
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Done):
                self._learn(command, answer)
        return [a if isinstance(a, Done) else others[p] for p, a in enumerate(answers)]

    async def _try(
        self, commands: Sequence[PersonCommand], channels: Sequence[HostChannel]
    ) -> list[Answer]:
        """Send each command once to where it seems to belong, in few pieces. Never raises."""
        answers: list[Answer] = [HostUnavailable()] * len(commands)
        places: dict[int, list[int]] = defaultdict(list)
        batches: dict[int, list[Routed]] = defaultdict(list)
        away = self._table.away if self._table else frozenset[int]()
        now = self._clock.now()
        for place, command in enumerate(commands):
            if command.deadline <= now:
                answers[place] = _TOO_LATE
                continue
            routed, root = self._directory.route(command)
            host = self._placement.host_of(root, away=away)
            places[host].append(place)
            batches[host].append(routed)

        async def send(host: int, start: int) -> None:
            piece = slice(start, start + COMMANDS_PER_CALL_MAX)
            batch = batches[host][piece]
            until = max(routed.command.deadline for routed in batch)
            with suppress(TimeoutError):
                async with asyncio.timeout((until - now).total_seconds()):
                    found = await channels[host].send(batch)
                    for place, answer in zip(places[host][piece], found, strict=True):
                        answers[place] = answer

        pieces = [
            send(host, start)
            for host, batch in batches.items()
            for start in range(0, len(batch), COMMANDS_PER_CALL_MAX)
        ]
        if len(pieces) == 1:  # a single command: it needs no task beside its caller's
            await pieces[0]
        else:
            await asyncio.gather(*pieces)
        return answers

    async def _until_settled(
        self, command: PersonCommand, answer: Answer, channels: Sequence[HostChannel]
    ) -> Done | Failed:
        """Follow redirects, and call again a host that was away, until the deadline."""
        was_lost = False
        redirects = 0
        while True:
            match answer:
                case HostUnavailable():
                    was_lost = True
                    await self._rest(command)
                case Moved():
                    redirects += 1
                    if redirects > REDIRECTS_MAX:
                        return failed(Kind.UNAVAILABLE, "ALWAYS_MOVING", "no host kept the command")
                    self._directory.learn_moved(answer)
                case Done():
                    self._learn(command, answer)
                    return answer
                case Failed(kind=kind) if was_lost and kind in UNSETTLED:
                    await self._rest(command)
                case Failed():
                    return answer
            if command.deadline <= self._clock.now():
                return _LOST if was_lost else _TOO_LATE
            (answer,) = await self._try([command], channels)

    async def _rest(self, command: PersonCommand) -> None:
        left = (command.deadline - self._clock.now()).total_seconds()
        await asyncio.sleep(max(0.0, min(RETRY_AFTER_SECONDS, left)))

    def _learn(self, command: PersonCommand, reply: Done) -> None:
        if reply.ignored is not None:
            return  # Nothing was stored, so nothing was linked.
        match command:
            case RecordSignals():  # first: nearly all are
                self._learn_linked(command, reply)
            case CheckConsent() | SetTraits():
                return
            case UnlinkIdentifier() | ReadmitIdentifier():
                self._directory.forget_owner(command.identifiers[0].key)
                return
            case EraseCustomer():
                for item in command.identifiers:
                    self._directory.forget_owner(item.key)
            case MergeCustomers(dry_run=True) | UndoMerge(dry_run=True):
                return
            case UnmergeRecord(dry_run=True):
                return
            case _:
                self._learn_linked(command, reply)

    def _learn_linked(self, command: PersonCommand, reply: Done) -> None:
        """Learn whose the identifiers are; of duplicates, or when declined, none was linked."""
        said = reply.signals
        if not said or any(result.result == "recorded" for result in said):
            self._directory.learn_done(command, reply)


def _channels(link: HostLink, placement: Placement, limits: CallLimits) -> list[HostChannel]:
    return [HostChannel(link, host, limits=limits) for host in range(placement.hosts)]
