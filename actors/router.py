"""The way of a command to its customer's host and of the reply back, on one of two lanes.

A single command goes at once on the lane of commands; many go in bulk: while calls to a host are in
flight, what arrives gathers and goes with the next one. What was on its way to a host that died is
sent again with the same command ids until the commands' deadlines: they are idempotent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
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
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    SetTraits,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.errors import Kind
from domain.ids import RecordId
from domain.replies import Done, Failed, Moved, Reply
from eventlog.errors import LogError
from eventlog.port import EventLog

CALLS_IN_FLIGHT_MAX = 4
REQUESTS_IN_FLIGHT_MAX = 256
"""Requests with commands to one host; beyond that commands gather too."""

COMMANDS_WAITING_MAX = 50_000
REDIRECTS_MAX = 8
RETRY_AFTER_SECONDS = 0.1
CALL_OVERRUN = timedelta(seconds=10)
"""How long after its commands' deadlines a call may still tell what became of them."""

UNSETTLED = frozenset({Kind.UNAVAILABLE, Kind.CONFLICT})
"""Failures that say nothing of what an earlier call with the same command id has stored."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    routed: Routed
    answer: asyncio.Future[Reply | HostUnavailable]


class HostChannel:
    """Gather commands for one host, and keep so many calls to it in flight."""

    def __init__(self, link: HostLink, host: int, *, calls_in_flight_max: int) -> None:
        self._link = link
        self._host = host
        self._calls_max = calls_in_flight_max
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def send(self, routed: Routed) -> Reply:
        """Send a command with the next batch. Raises `HostUnavailable`."""
        if len(self._waiting) >= COMMANDS_WAITING_MAX:
            return failed(Kind.UNAVAILABLE, "HOST_OVERLOADED", "too many commands are waiting")
        answer: asyncio.Future[Reply | HostUnavailable] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(routed, answer))
        asyncio.get_running_loop().call_soon(self._call_next)
        reply = await answer
        if isinstance(reply, HostUnavailable):
            raise reply
        return reply

    def _call_next(self) -> None:
        while self._waiting and len(self._calls) < self._calls_max:
            size = min(len(self._waiting), COMMANDS_PER_CALL_MAX)
            batch = [self._waiting.popleft() for _ in range(size)]
            call = asyncio.create_task(self._call(batch))
            call.add_done_callback(self._called)
            self._calls.add(call)

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._call_next()

    async def _call(self, batch: list[_Waiting]) -> None:
        replies: Sequence[Reply | HostUnavailable]
        try:
            sent = encode_commands([waiting.routed for waiting in batch])
            deadline = max(waiting.routed.command.deadline for waiting in batch) + CALL_OVERRUN
            slot = batch[0].routed.slot or 0
            received = await self._link.execute(self._host, sent, slot=slot, deadline=deadline)
            replies = decode_replies(received)
        except HostUnavailable as error:
            replies = [error] * len(batch)
        except Exception as error:  # noqa: BLE001  # or the callers would wait for ever
            _log.error("call_failed", host=self._host, **describe(error))
            replies = [HostUnavailable()] * len(batch)
        for waiting, reply in zip(batch, replies, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(reply)


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
        self._bulk = _channels(link, placement, CALLS_IN_FLIGHT_MAX)
        self._commands = self._bulk
        if commands is not None:
            self._commands = _channels(commands, placement, REQUESTS_IN_FLIGHT_MAX)

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
        if len(commands) == 1:
            return [await self._until_settled(commands[0], channels)]
        return list(await asyncio.gather(*(self._until_settled(c, channels) for c in commands)))

    def _host_of(self, root: RecordId) -> int:
        return self._placement.host_of(root, away=self._table.away if self._table else ())

    async def _until_settled(
        self, command: PersonCommand, channels: Sequence[HostChannel]
    ) -> Done | Failed:
        """Follow redirects, and call again a host that was away, until the deadline."""
        was_lost = False
        redirects = 0
        while (left := (command.deadline - self._clock.now()).total_seconds()) > 0:
            routed, root = self._directory.route(command)
            try:
                async with asyncio.timeout(left):
                    reply = await channels[self._host_of(root)].send(routed)
            except (HostUnavailable, TimeoutError):
                was_lost = True
                await asyncio.sleep(min(RETRY_AFTER_SECONDS, left))
                continue
            match reply:
                case Moved():
                    redirects += 1
                    if redirects > REDIRECTS_MAX:
                        return failed(Kind.UNAVAILABLE, "ALWAYS_MOVING", "no host kept the command")
                    self._directory.learn_moved(reply)
                case Done():
                    self._learn(command, reply)
                    return reply
                case Failed(kind=kind) if was_lost and kind in UNSETTLED:
                    await asyncio.sleep(min(RETRY_AFTER_SECONDS, left))
                case Failed():
                    return reply
        if was_lost:
            text = "the host was lost, and none said what became of the command"
            return failed(Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME", text)
        return failed(Kind.UNAVAILABLE, "DEADLINE_EXCEEDED", "the deadline has passed")

    def _learn(self, command: PersonCommand, reply: Done) -> None:
        if reply.ignored is not None:
            return  # Nothing was stored, so nothing was linked.
        match command:
            case CheckConsent() | SetTraits():
                return
            case UnlinkIdentifier() | ReadmitIdentifier():
                self._directory.forget_owner(command.identifiers[0].key)
                return
            case MergeCustomers(dry_run=True) | UndoMerge(dry_run=True):
                return
            case UnmergeRecord(dry_run=True):
                return
            case _:
                # Where nothing was recorded nothing was linked: for duplicates, or when declined.
                said = reply.signals
                if not said or any(result.result == "recorded" for result in said):
                    self._directory.learn_done(command, reply)


def _channels(link: HostLink, placement: Placement, calls_max: int) -> list[HostChannel]:
    hosts = range(placement.hosts)
    return [HostChannel(link, host, calls_in_flight_max=calls_max) for host in hosts]
