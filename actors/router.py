"""The way of a command to its customer's host and of the reply back, in micro-batches per host.

While calls to a host are in flight, what arrives gathers and goes with the next one. A host that
dies is called again with the same command ids until the commands' deadlines: they are idempotent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from actors.clock import Clock
from actors.directory import Directory
from actors.faults import describe
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
from domain.replies import Done, Failed, Moved, Reply
from eventlog.errors import LogError
from eventlog.port import EventLog

CALLS_IN_FLIGHT_MAX = 4
COMMANDS_WAITING_MAX = 50_000
REDIRECTS_MAX = 8
RETRY_AFTER_SECONDS = 0.1
CALL_SECONDS_MAX = 40.0
UNSETTLED = frozenset({Kind.UNAVAILABLE, Kind.CONFLICT})
"""Failures that say nothing of what an earlier call with the same command id has stored."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    routed: Routed
    answer: asyncio.Future[Reply | HostUnavailable]


class HostChannel:
    """Gather commands for one host, and keep a few calls to it in flight."""

    def __init__(self, link: HostLink, host: int) -> None:
        self._link = link
        self._host = host
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
        while self._waiting and len(self._calls) < CALLS_IN_FLIGHT_MAX:
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
            received = await self._link.execute(self._host, sent, timeout_seconds=CALL_SECONDS_MAX)
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
    """Route commands of one workspace; one instance a process."""

    def __init__(
        self, log: EventLog, link: HostLink, *, placement: Placement, clock: Clock
    ) -> None:
        self._directory = Directory(log)
        self._placement = placement
        self._clock = clock
        self._channels = [HostChannel(link, host) for host in range(placement.hosts)]

    async def execute(self, command: PersonCommand) -> Done | Failed:
        """Execute one command. Never raises."""
        return (await self.execute_many([command]))[0]

    async def execute_many(self, commands: Sequence[PersonCommand]) -> list[Done | Failed]:
        """Execute commands; replies are aligned with them. Never raises."""
        try:
            await self._directory.look_up(commands)
        except LogError as error:
            return [failed(Kind.UNAVAILABLE, error.reason, error.message)] * len(commands)
        return list(await asyncio.gather(*(self._until_settled(c) for c in commands)))

    async def _until_settled(self, command: PersonCommand) -> Done | Failed:
        """Follow redirects, and call again a host that was away, until the deadline."""
        was_lost = False
        redirects = 0
        while (left := (command.deadline - self._clock.now()).total_seconds()) > 0:
            routed, root = self._directory.route(command)
            try:
                async with asyncio.timeout(left):
                    reply = await self._channels[self._placement.host_of(root)].send(routed)
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
